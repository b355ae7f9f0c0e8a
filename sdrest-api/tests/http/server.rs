//! One server: the real router, a store in a folder of its own, the authd of this test behind a real socket.

use super::authd::TestAuthd;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sdrest_api::{
    app::{About, App},
    auth::JobSecrets,
    authd::{Authd, AuthdAddress},
    edge::{Authority, CrossSite, Hosts, KernelWord, Peer, SocketTables},
    images::BlobStore,
    jobs::{Queue, QueueLimits},
    router::{Surroundings, router},
    workers::{WorkerSettings, Workers},
};
use sdrest_proto::{
    authd::AuthMode, health::SandboxReport, id::JobId, identity::Role, transport::TrustedUids,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{path::PathBuf, sync::Arc, time::Instant};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// The uid of a proxy that these servers are told of.
pub(crate) const PROXY: u32 = 54_321;

pub(crate) struct Server {
    pub(crate) authd: TestAuthd,
    pub(crate) socket: PathBuf,
    pub(crate) listening: Option<JoinSet<()>>,
    pub(crate) queue: Queue,
    pub(crate) blobs: BlobStore,
    router: Router,
    folder: tempfile::TempDir,
    _stop: DropGuard,
}

/// An answer, with its body as JSON where it is that.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The error's code.
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("")
    }

    pub(crate) fn is(&self, status: u16, code: &str) -> bool {
        self.status.as_u16() == status && self.code() == code
    }
}

impl Server {
    pub(crate) async fn start(mode: AuthMode) -> Self {
        Self::with(TestAuthd::new(mode)).await
    }

    pub(crate) async fn with(authd: TestAuthd) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("authd.sock");
        let listening = authd.listen(&socket);
        let own = TrustedUids::new([nix::unistd::geteuid().as_raw()]);
        let stop = CancellationToken::new();
        let address = AuthdAddress { socket: socket.clone(), trusted: own.clone() };
        let link = Authd::connect(address, stop.clone()).await.unwrap();
        let queue =
            Queue::open(&folder.path().join("jobs.db"), QueueLimits::default()).await.unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let job_secrets = JobSecrets::open(folder.path()).unwrap();
        let settings = WorkerSettings::new(Vec::new(), own);
        let workers = Workers::start(settings, queue.work(), blobs.clone(), stop.clone());
        let about = About {
            begun: Instant::now(),
            sandbox: SandboxReport::default(),
            warnings: Vec::new(),
        };
        let (own_queue, own_blobs) = (queue.clone(), blobs.clone());
        let app = App {
            authd: link,
            kernel: KernelWord::new(SocketTables::open().ok(), vec![PROXY]),
            queue,
            workers,
            blobs,
            job_secrets,
            stop: stop.clone(),
            about: Arc::new(about),
        };
        let around = Surroundings {
            hosts: Hosts::new("127.0.0.1".parse().ok(), Authority::of_url("https://sd.example")),
            site: CrossSite { public: Authority::of_url("https://sd.example") },
        };
        let (router, _stop) = (router(app, around), stop.drop_guard());
        Self {
            authd,
            socket,
            listening: Some(listening),
            queue: own_queue,
            blobs: own_blobs,
            router,
            folder,
            _stop,
        }
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(crate) fn request(method: Method, path: &str) -> axum::http::request::Builder {
        let peer = Peer::Tcp {
            remote: "127.0.0.1:50000".parse().unwrap(),
            local: "127.0.0.1:8080".parse().unwrap(),
        };
        Request::builder().method(method).uri(path).extension(peer)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (mut parts, body) = request.into_parts();
        if !parts.headers.contains_key("host") {
            parts.headers.insert("host", "127.0.0.1:8080".parse().unwrap());
        }
        let response = self.router.clone().oneshot(Request::from_parts(parts, body)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 4 * 1024 * 1024).await.unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, token: Option<&str>) -> Answer {
        let mut request = Self::request(method, path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// A call with an API key in `X-API-Key`.
    pub(crate) async fn call_with_key(&self, method: Method, path: &str, key: &str) -> Answer {
        let request = Self::request(method, path).header("x-api-key", key);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.call(Method::GET, path, token).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value, token: Option<&str>) -> Answer {
        let mut request =
            Self::request(Method::POST, path).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// What a guest was given when its job was accepted.
    pub(crate) fn guests_secret(&self, job: JobId) -> String {
        let key = std::fs::read(self.folder.path().join("guest-jobs.key")).unwrap();
        let digest = Sha256::new().chain_update(key).chain_update(job.to_string()).finalize();
        URL_SAFE_NO_PAD.encode(digest)
    }

    pub(crate) fn user(&self) -> String {
        self.authd.token(Role::User)
    }
}
