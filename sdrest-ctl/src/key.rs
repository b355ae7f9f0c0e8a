//! `sdrestctl key`: one's own API keys through HTTP, after a sign-in; anybody's through authd's admin socket. The key
//! itself is alone on standard output, so that a script can keep it: `sdrestctl key add > file`.

use crate::{
    admin::connection::Admin,
    cli::{CallerArgs, KeyAdd, KeyArgs, KeyVerb, OutputFormat},
    clock::utc,
    columns::align,
    session::{
        client::Client,
        login, server,
        terminal::{say, tell},
    },
};
use anyhow::{Context, Result, ensure};
use sdrest_proto::{
    api_key::{KeyInfo, NewKey},
    id::KeyId,
    secret::ApiKey,
};
use serde_json::{Value, json};
use std::io::Write;

pub(crate) fn run(args: &KeyArgs) -> Result<()> {
    let admin = || Admin::connect(args.server.run_dir.as_deref());
    match &args.verb {
        KeyVerb::Add(new) => match &new.owner {
            None => signed_in(args, &new.caller, |client| add(client, new)),
            Some(_) => add_for(&admin()?, new),
        },
        KeyVerb::List { all: false, output, caller } => signed_in(args, caller, |client| {
            let answer = client.get("/auth/api-keys")?;
            let keys = answer.get("keys").or_else(|| answer.get("api_keys"));
            let keys = keys.and_then(Value::as_array).context("the server's answer has no keys")?;
            list(keys, *output);
            Ok(())
        }),
        KeyVerb::List { all: true, output, .. } => {
            let keys =
                admin()?.ask(|client, call| async move { client.list_all_keys(call).await })?;
            list(&keys.iter().map(document).collect::<Vec<_>>(), *output);
            Ok(())
        }
        KeyVerb::Revoke { id, as_admin: false, caller } => signed_in(args, caller, |client| {
            client.delete(&format!("/auth/api-keys/{id}"), None)?;
            revoked(*id)
        }),
        KeyVerb::Revoke { id, as_admin: true, .. } => {
            let key = *id;
            admin()?.ask(|client, call| async move { client.revoke_any_key(call, key).await })?;
            revoked(key)
        }
    }
}

/// Does one thing between a sign-in and a sign-out: keys are made by people, not by keys.
fn signed_in(
    args: &KeyArgs,
    caller: &CallerArgs,
    what: impl FnOnce(&Client) -> Result<()>,
) -> Result<()> {
    let mut client = Client::new(&server::url(&args.server)?);
    ensure!(
        login::sign_in(&mut client, caller)?,
        "this server has no authentication, and so no keys"
    );
    let outcome = what(&client);
    login::sign_out(&client);
    outcome
}

fn add(client: &Client, new: &KeyAdd) -> Result<()> {
    let mut body = json!({ "name": new.name.as_str() });
    if let Some(scopes) = &new.scopes {
        body["scopes"] = scopes.iter().map(|scope| scope.as_str()).collect();
    }
    if let Some(days) = new.days {
        body["expires_in_days"] = days.into();
    }
    let mut answer = client.post("/auth/api-keys", &body)?;
    let Some(Value::String(key)) = answer.get_mut("api_key").map(Value::take) else {
        anyhow::bail!("the server made a key and did not tell it");
    };
    show(&ApiKey::new(key), answer.get("key").unwrap_or(&Value::Null))
}

fn add_for(admin: &Admin, new: &KeyAdd) -> Result<()> {
    let user = new.owner.clone().context("--for names nobody")?;
    let wanted =
        NewKey { name: new.name.clone(), scopes: new.scopes.clone(), expires_in_days: new.days };
    let made =
        admin.ask(|client, call| async move { client.make_key_for(call, user, wanted).await })?;
    show(&made.key, &document(&made.info))
}

fn revoked(id: KeyId) -> Result<()> {
    tell(&format!("the key {id} is revoked"));
    Ok(())
}

/// The key where a script reads it, and what it is where a person does.
fn show(key: &ApiKey, info: &Value) -> Result<()> {
    tell(&format!("id      {}", word(info, "id")));
    tell(&format!("scopes  {}", scopes(info)));
    tell(&format!("expires {}", time(info, "expires")));
    tell("This is the only time that the key is shown:");
    let text = key.expose("shown once to the person who made it");
    // Not the key but the terminal is at stake: a front end may answer what it likes.
    ensure!(text.bytes().all(|byte| byte.is_ascii_graphic()), "the server's key is not one");
    writeln!(std::io::stdout(), "{text}")
        .with_context(|| format!("the key could not be written; revoke it: {}", word(info, "id")))
}

fn document(key: &KeyInfo) -> Value {
    json!({
        "id": key.id.to_string(), "name": key.name.as_str(), "username": key.username, "owner": key.owner.as_str(),
        "scopes": key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "created": key.created, "expires": key.expires, "last_used": key.last_used,
    })
}

fn list(keys: &[Value], output: OutputFormat) {
    if matches!(output, OutputFormat::Json) {
        say(&format!("{:#}", json!({ "keys": keys })));
        return;
    }
    let head = ["ID", "NAME", "USER", "EXPIRES", "LAST USED", "SCOPES"].map(str::to_owned);
    let rows = keys.iter().map(|key| {
        [
            word(key, "id"),
            word(key, "name"),
            word(key, "username"),
            time(key, "expires"),
            time(key, "last_used"),
            scopes(key),
        ]
    });
    say(align(&std::iter::once(head).chain(rows).collect::<Vec<_>>()).trim_end());
}

fn word(info: &Value, name: &str) -> String {
    info.get(name).and_then(Value::as_str).unwrap_or("-").to_owned()
}

fn time(info: &Value, name: &str) -> String {
    info.get(name).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), utc)
}

fn scopes(info: &Value) -> String {
    let scopes = info.get("scopes").and_then(Value::as_array);
    scopes.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}
