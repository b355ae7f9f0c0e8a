//! API keys: where they are accepted, what they may do, what they cost authd, and how their owners manage them.

use super::{
    authd::TestAuthd,
    server::{Answer, Server},
};
use axum::{body::Body, http::Method};
use sdrest_proto::{
    api_key::Scopes,
    authd::AuthMode,
    id::KeyId,
    identity::{Permission, Role},
    secret::ApiKey,
};
use serde_json::json;
use std::sync::atomic::Ordering;

fn scopes(permissions: &[Permission]) -> Scopes {
    Scopes::try_from(permissions.to_vec()).unwrap()
}

fn asked(server: &Server) -> u32 {
    server.authd.asked.check_key.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_key_works_in_either_header_and_in_every_mode_but_none() {
    for mode in AuthMode::ALL {
        let server = Server::start(mode).await;
        let key = server.authd.api_key(Role::Operator, Scopes::all(Role::Operator));
        let both = [
            server.call_with_key(Method::GET, "/api/auth/me", &key).await,
            server.get("/api/auth/me", Some(&key)).await,
        ];
        for me in both {
            if mode == AuthMode::None {
                assert_eq!(me.body["user"]["id"], "anonymous");
                continue;
            }
            assert_eq!(me.body["user"]["id"], "unix:1000:1", "{mode:?}");
            assert_eq!(me.body["user"]["role"], "operator");
            assert_eq!(me.body["methods"], json!(["key"]));
            assert!(me.body["expires_in"].as_u64().unwrap() > 3000);
        }
        assert_eq!(asked(&server), u32::from(mode != AuthMode::None), "{mode:?}: asked once");
    }
}

#[tokio::test]
async fn two_credentials_are_none() {
    let server = Server::start(AuthMode::Pam).await;
    let key = server.authd.api_key(Role::User, Scopes::all(Role::User));
    let token = server.user();
    for headers in [
        [("x-api-key", key.clone()), ("authorization", format!("Bearer {token}"))],
        [("x-api-key", key.clone()), ("authorization", format!("Bearer {key}"))],
        [("x-api-key", key.clone()), ("x-api-key", key.clone())],
    ] {
        let mut request = Server::request(Method::GET, "/api/models");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert!(answer.is(401, "TOKEN_INVALID"), "{answer:?}");
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    assert_eq!(asked(&server), 0);
}

#[tokio::test]
async fn what_is_not_written_like_a_key_costs_authd_nothing() {
    let server = Server::start(AuthMode::Pam).await;
    let good = ApiKey::compose(KeyId::random(), &[9; 24]).expose("changed in a test").to_owned();
    let mut changed = good.clone();
    changed.replace_range(20..21, if &good[20..21] == "A" { "B" } else { "A" });
    for bad in ["sdr_", "sdr_x", &changed, &format!("{good}A"), &good[..good.len() - 1]] {
        for answer in [
            server.call_with_key(Method::GET, "/api/models", bad).await,
            server.get("/api/models", Some(bad)).await,
        ] {
            assert!(answer.is(401, "TOKEN_INVALID"), "{bad}: {answer:?}");
        }
    }
    let token = server.user();
    for other in [token.as_str(), "x", &"a".repeat(5000)] {
        let answer = server.call_with_key(Method::GET, "/api/models", other).await;
        assert!(answer.is(401, "TOKEN_INVALID"));
    }
    assert_eq!(asked(&server), 0);
    assert!(server.get("/api/models", Some(&good)).await.is(401, "TOKEN_INVALID"));
    assert_eq!(asked(&server), 1, "only authd knows that there is no such key");
}

#[tokio::test]
async fn many_at_once_ask_once_and_a_revocation_is_heard_of() {
    let server = Server::start(AuthMode::Pam).await;
    let key = server.authd.api_key(Role::User, Scopes::all(Role::User));
    let calls = (0..50).map(|_| server.get("/api/models", Some(&key)));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(asked(&server), 1);
    // Somebody else is signed out: asked again, and still good.
    server.authd.announce(|news| news.sessions.push(sdrest_proto::id::SessionId::random()));
    until_asked(&server, &key, 2).await;
    assert_eq!(server.get("/api/models", Some(&key)).await.status, 200);
    server.authd.api_keys.lock().unwrap().clear();
    server.authd.announce(|_| {});
    until_asked(&server, &key, 3).await;
    assert!(server.get("/api/models", Some(&key)).await.is(401, "TOKEN_INVALID"));
}

/// Uses the key until authd was asked so often; the limit is only there so that a failure ends.
async fn until_asked(server: &Server, key: &str, times: u32) {
    for _ in 0..1000 {
        server.get("/api/models", Some(key)).await;
        if asked(server) >= times {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("authd was asked {} times", asked(server));
}

#[tokio::test]
async fn a_key_may_do_what_its_scopes_and_its_owners_role_both_say() {
    let server = Server::start(AuthMode::Pam).await;
    let refresh =
        async |key: &str| server.call_with_key(Method::POST, "/api/models/refresh", key).await;
    let both = server.authd.api_key(Role::Operator, scopes(&[Permission::ModelsManage]));
    let role_only = server.authd.api_key(Role::Operator, scopes(&[Permission::Generate]));
    let scope_only = server.authd.api_key(Role::User, scopes(&[Permission::ModelsManage]));
    assert!(refresh(&both).await.is(503, "WORKER_UNAVAILABLE"));
    let refused = refresh(&role_only).await;
    assert!(refused.is(403, "FORBIDDEN"));
    assert!(message(&refused).contains("lacks the scope `models_manage`"), "{refused:?}");
    let refused = refresh(&scope_only).await;
    assert!(refused.is(403, "FORBIDDEN"));
    assert!(message(&refused).contains("the role `user`"), "{refused:?}");
    let me = server.get("/api/auth/me", Some(&both)).await;
    assert_eq!(me.body["user"]["permissions"], json!(["models_manage"]));
}

fn message(answer: &Answer) -> &str {
    answer.body["error"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_key_manages_no_keys_and_has_no_session() {
    let server = Server::start(AuthMode::Pam).await;
    let key = server.authd.api_key(Role::Admin, Scopes::all(Role::Admin));
    let id = KeyId::random();
    for (method, path) in [
        (Method::GET, "/api/auth/api-keys".to_owned()),
        (Method::GET, "/api/auth/api-keys?all=true".to_owned()),
        (Method::POST, "/api/auth/api-keys".to_owned()),
        (Method::DELETE, format!("/api/auth/api-keys/{id}")),
        (Method::POST, "/api/auth/logout".to_owned()),
    ] {
        let refused = server.call_with_key(method.clone(), &path, &key).await;
        assert!(refused.is(403, "FORBIDDEN"), "{method} {path}: {refused:?}");
        assert!(message(&refused).contains("sign in and send the token"), "{refused:?}");
    }
}

#[tokio::test]
async fn owners_make_list_and_revoke_their_keys() {
    let server = Server::start(AuthMode::Pam).await;
    let token = server.user();
    let wish = json!({"name": "laptop", "scopes": ["generate", "generate"], "expires_in_days": 7});
    let made = server.post("/api/auth/api-keys", &wish, Some(&token)).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.headers["cache-control"], "no-store");
    let key = made.body["api_key"].as_str().unwrap().to_owned();
    let fields: Vec<_> = made.body["key"].as_object().unwrap().keys().cloned().collect();
    let mut expected =
        ["id", "name", "scopes", "created", "expires", "last_used", "owner", "username"];
    expected.sort_unstable();
    let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!(made.body["key"]["scopes"], json!(["generate"]));
    assert_eq!(made.body["key"]["name"], "laptop");
    assert_eq!(server.get("/api/auth/me", Some(&key)).await.status, 200);
    let listed = server.get("/api/auth/api-keys", Some(&token)).await;
    assert_eq!(listed.body["keys"].as_array().unwrap().len(), 1);
    assert!(!listed.body.to_string().contains(&key), "shown once");
    let path = format!("/api/auth/api-keys/{}", made.body["key"]["id"].as_str().unwrap());
    assert_eq!(server.call(Method::DELETE, &path, Some(&token)).await.status, 204);
    assert!(
        server.get("/api/auth/me", Some(&key)).await.is(401, "TOKEN_INVALID"),
        "before authd's news is here"
    );
    assert!(server.call(Method::DELETE, &path, Some(&token)).await.is(404, "NOT_FOUND"));
    let everybodys = "/api/auth/api-keys?all=true";
    assert!(server.get(everybodys, Some(&token)).await.is(403, "FORBIDDEN"));
    let admin = server.authd.token(Role::Admin);
    assert_eq!(server.get(everybodys, Some(&admin)).await.status, 200);
    let guest = server.authd.token(Role::Guest);
    assert!(server.get("/api/auth/api-keys", Some(&guest)).await.is(403, "FORBIDDEN"));
}

#[tokio::test]
async fn what_is_wrong_with_a_wish_is_named() {
    let server = Server::start(AuthMode::Pam).await;
    let token = server.user();
    let long = "a".repeat(65);
    for (body, named) in [
        (json!({}), "`name` is missing"),
        (json!({"name": ""}), "`name` must be 1 to 64 characters"),
        (json!({"name": long}), "`name` must be 1 to 64 characters"),
        (json!({"name": "a\u{1b}[2J"}), "`name` must be 1 to 64 characters"),
        (json!({"name": 7}), "`name` must be a text, got 7"),
        (json!({"name": "a", "scopes": "generate"}), "`scopes` must be a list of texts"),
        (json!({"name": "a", "scopes": [1]}), "`scopes` must be a list of texts"),
        (json!({"name": "a", "scopes": ["fly"]}), "\"fly\""),
        (json!({"name": "a", "scopes": ["keys_own"]}), "\"keys_own\""),
        (json!({"name": "a", "expires_in_days": 0}), "between 1 and 3650, got 0"),
        (json!({"name": "a", "expires_in_days": 3651}), "between 1 and 3650, got 3651"),
        (json!({"name": "a", "role": "admin"}), "unknown field \"role\""),
        (json!({"name": "a", "owner": "unix:0:1"}), "unknown field \"owner\""),
    ] {
        let answer = server.post("/api/auth/api-keys", &body, Some(&token)).await;
        assert!(answer.is(422, "VALIDATION_FAILED"), "{body}: {answer:?}");
        assert!(message(&answer).contains(named), "{body}: {answer:?}");
    }
    for query in ["all=yes", "all=true&all=true", "every=true"] {
        let path = format!("/api/auth/api-keys?{query}");
        let answer = server.get(&path, Some(&token)).await;
        assert!(answer.is(422, "VALIDATION_FAILED"), "{query}: {answer:?}");
    }
    assert!(server.authd.api_keys.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_authd_what_was_confirmed_goes_on_and_the_rest_waits() {
    let mut server = Server::with(TestAuthd::new(AuthMode::Pam)).await;
    let known = server.authd.api_key(Role::User, Scopes::all(Role::User));
    let unknown = server.authd.api_key(Role::User, Scopes::all(Role::User));
    assert_eq!(server.get("/api/models", Some(&known)).await.status, 200);
    server.listening.take().unwrap().shutdown().await;
    assert_eq!(server.get("/api/models", Some(&known)).await.status, 200);
    let waits = server.get("/api/models", Some(&unknown)).await;
    assert!(waits.is(503, "PAM_AUTH_UNAVAILABLE"), "{waits:?}");
    assert!(waits.headers.contains_key("retry-after"));
}
