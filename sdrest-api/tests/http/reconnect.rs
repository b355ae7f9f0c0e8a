//! The link to an authd that hangs up again and again: it is not called all the time.

use super::authd::TestAuthd;
use sdrest_api::authd::{Authd, AuthdAddress};
use sdrest_proto::{authd::AuthMode, transport::TrustedUids};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Long enough for an authd to introduce itself.
const MOMENT: Duration = Duration::from_millis(20);

/// Stands between the link and authd and counts connections; once it is broken, each lives for a moment.
#[derive(Clone, Default)]
struct Wire {
    broken: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Wire {
    fn lay(&self, from: &Path, to: PathBuf) -> JoinSet<()> {
        let (listener, wire) = (UnixListener::bind(from).unwrap(), self.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                wire.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(wire.clone().carry(near, to.clone()));
            }
        });
        tasks
    }

    async fn carry(self, mut near: UnixStream, to: PathBuf) {
        let mut far = UnixStream::connect(to).await.unwrap();
        let ends = async {
            loop {
                sleep(MOMENT).await;
                if self.broken.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = ends => {}
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn an_authd_that_hangs_up_at_once_is_not_called_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let (near, far) = (folder.path().join("near.sock"), folder.path().join("far.sock"));
    let _authd = TestAuthd::new(AuthMode::Pam).listen(&far);
    let wire = Wire::default();
    let _carries = wire.lay(&near, far);
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let trusted = TrustedUids::new([nix::unistd::geteuid().as_raw()]);
    let link = Authd::connect(AuthdAddress { socket: near, trusted }, stop).await.unwrap();
    wire.broken.store(true, Ordering::Relaxed);
    let before = wire.connections();
    sleep(Duration::from_secs(2)).await;
    let calls = wire.connections() - before;
    // One a second; a connection that ends before its introduction is tried again sooner.
    assert!((1..=8).contains(&calls), "{calls} connections in two seconds");

    wire.broken.store(false, Ordering::Relaxed);
    let answers = async {
        let mut steady = 0;
        while steady < 10 {
            sleep(MOMENT).await;
            steady = if link.is_connected() { steady + 1 } else { 0 };
        }
    };
    timeout(Duration::from_secs(30), answers).await.expect("it does not come back");
}
