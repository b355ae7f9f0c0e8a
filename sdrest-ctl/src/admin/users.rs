//! `sdrestctl user`: the internal user database. A password is typed twice or comes by standard input.

use super::connection::Admin;
use crate::{
    cli::{OutputFormat, UserArgs, UserVerb},
    clock::utc,
    columns::align,
    session::terminal::{Source, new_password, say},
};
use anyhow::Result;
use sdrest_proto::{
    accounts::{NewUser, UserInfo, UserName},
    authd::UserState,
    identity::Role,
};
use serde_json::json;

pub(crate) fn run(args: &UserArgs) -> Result<()> {
    // Connected first: nobody types a password for a socket that is not there.
    let admin = Admin::connect(args.place.run_dir.as_deref())?;
    match &args.verb {
        UserVerb::Add { name, role, password_stdin } => {
            add(&admin, name, *role, source(*password_stdin))
        }
        UserVerb::Passwd { name, password_stdin } => passwd(&admin, name, source(*password_stdin)),
        UserVerb::List { output } => list(&admin, *output),
        UserVerb::Disable { name } => set_state(&admin, name, UserState::Disabled),
        UserVerb::Enable { name } => set_state(&admin, name, UserState::Enabled),
        UserVerb::Role { name, role } => {
            let (user, role) = (name.clone(), *role);
            let changed = admin
                .ask(|client, call| async move { client.set_user_role(call, user, role).await })?;
            say(&line(&changed));
            Ok(())
        }
        UserVerb::Remove { name } => {
            let user = name.clone();
            admin.ask(|client, call| async move { client.remove_user(call, user).await })?;
            say(&format!("{} is removed, with all sessions and keys", name.as_str()));
            Ok(())
        }
    }
}

fn source(password_stdin: bool) -> Source {
    if password_stdin { Source::Lines } else { Source::Terminal }
}

fn add(admin: &Admin, name: &UserName, role: Role, source: Source) -> Result<()> {
    let password = new_password(source, name.as_str())?;
    let new = NewUser { username: name.clone(), password, role };
    let added = admin.ask(|client, call| async move { client.add_user(call, new).await })?;
    say(&line(&added));
    Ok(())
}

fn passwd(admin: &Admin, name: &UserName, source: Source) -> Result<()> {
    let password = new_password(source, name.as_str())?;
    let user = name.clone();
    admin.ask(|client, call| async move { client.set_password(call, user, password).await })?;
    say(&format!("{}: the password is changed, and all sessions have ended", name.as_str()));
    Ok(())
}

fn set_state(admin: &Admin, name: &UserName, state: UserState) -> Result<()> {
    let user = name.clone();
    let changed =
        admin.ask(|client, call| async move { client.set_user_state(call, user, state).await })?;
    say(&line(&changed));
    Ok(())
}

fn list(admin: &Admin, output: OutputFormat) -> Result<()> {
    let users = admin.ask(|client, call| async move { client.list_users(call).await })?;
    match output {
        OutputFormat::Json => {
            let users: Vec<serde_json::Value> = users.iter().map(document).collect();
            say(&format!("{:#}", json!({ "users": users })));
        }
        OutputFormat::Table => {
            let head =
                ["NAME", "ROLE", "STATE", "CREATED", "PASSWORD CHANGED", "ID"].map(str::to_owned);
            let rows = users.iter().map(|user| {
                [
                    user.username.as_str().to_owned(),
                    user.role.as_str().to_owned(),
                    word(user.state).to_owned(),
                    utc(user.created),
                    utc(user.password_changed),
                    user.id.to_string(),
                ]
            });
            let lines: Vec<_> = std::iter::once(head).chain(rows).collect();
            say(align(&lines).trim_end());
        }
    }
    Ok(())
}

fn document(user: &UserInfo) -> serde_json::Value {
    json!({
        "id": user.id.to_string(), "username": user.username.as_str(), "role": user.role.as_str(),
        "state": word(user.state), "created": user.created, "password_changed": user.password_changed,
    })
}

fn line(user: &UserInfo) -> String {
    format!("{}: {}, {}", user.username.as_str(), user.role.as_str(), word(user.state))
}

fn word(state: UserState) -> &'static str {
    match state {
        UserState::Enabled => "enabled",
        UserState::Disabled => "disabled",
    }
}
