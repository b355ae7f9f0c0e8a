//! What this folder asks authd about credentials that it cannot check itself. Said as a trait, because the
//! link to authd stands above this folder and not below it.

use futures::future::BoxFuture;
use sdrest_proto::{
    api_key::KeyHolder,
    authd::Claims,
    error::Fault,
    id::RequestId,
    secret::{ApiKey, BearerToken},
};

/// Whoever knows all keys and tokens.
pub trait Voucher: Send + Sync {
    /// Whose key this is, while it counts.
    fn check_key(
        &self,
        key: ApiKey,
        request: RequestId,
    ) -> BoxFuture<'static, Result<KeyHolder, Fault>>;

    /// The claims of a token that counts.
    fn introspect(
        &self,
        token: BearerToken,
        request: RequestId,
    ) -> BoxFuture<'static, Result<Claims, Fault>>;
}
