//! Proof that a caller may do one thing. `Queue::submit` asks for a `Permit<Generate>`, and only the
//! extractor in this folder makes one, out of a caller whom the gate let through.
//!
//! No HTTP in this file: the queue imports it.

use super::user::User;
use crate::jobs::SubmitPermit;
use sdrest_proto::identity::Permission;
use std::marker::PhantomData;

/// A kind of work and the permission that it takes.
pub trait Allows: Send + Sync + 'static {
    const PERMISSION: Permission;
}

macro_rules! works {
    ($($(#[$doc:meta])* $name:ident => $permission:ident,)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Allows for $name {
            const PERMISSION: Permission = Permission::$permission;
        })*
    };
}

works! {
    /// Submitting pictures to be made.
    Generate => Generate,
}

impl SubmitPermit for Permit<Generate> {}

/// The caller, with the proof.
#[derive(Clone, Debug)]
pub struct Permit<A: Allows> {
    user: User,
    work: PhantomData<fn() -> A>,
}

impl<A: Allows> Permit<A> {
    /// Nothing, where the caller lacks the permission.
    pub(super) fn grant(user: &User) -> Option<Self> {
        user.may(A::PERMISSION).then(|| Self { user: user.clone(), work: PhantomData })
    }

    pub fn user(&self) -> &User {
        &self.user
    }
}
