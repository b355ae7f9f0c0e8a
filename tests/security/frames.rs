//! The frames between authd and the conversation program, from a hostile end of the socket.

use crate::{
    place::Place,
    talk::{Launch, Talk, account, sign_in},
};
use harness::{etc::ALICE, programs};
use sdrest_proto::{
    conversation::{AccountKey, FromConversation, MAX_FRAME, ToConversation, decode, encode},
    secret::Answer,
};
use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// himmelblau's socket answered anybody (GHSA-6gp8-pp9v-gx45). Here a stranger's bytes are not even read.
#[test]
fn replay_53_ghsa_6gp8_pp9v_gx45_a_stranger_at_the_other_end_is_refused_unread() {
    let Some(place) = Place::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let body = encode(&ToConversation::Probe { service: None }).unwrap();
    let bytes = [u32::try_from(body.len()).unwrap().to_le_bytes().to_vec(), body].concat();
    // perl is the one interpreter that every Debian has, and another account can reach it.
    let script = "socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un(shift)) or die;
        syswrite(S, pack('C*', @ARGV)); print sysread(S, $answer, 100) || 0";
    let perl = |uid: &str| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
            "--",
            "perl",
            "-MSocket",
            "-e",
        ]);
        command
    };
    if !perl("2001").arg("1").status().is_ok_and(|status| status.success()) {
        harness::skip("there is no perl that another account could run");
        return;
    }
    // authd's account gets its answer, another gets none.
    for (uid, answered) in [("60702", true), ("60701", false), ("2001", false)] {
        let stranger = perl(uid)
            .arg(script)
            .arg(&path)
            .args(bytes.iter().map(u8::to_string))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut program = place
            .etc
            .command(programs::find("sdrest-conversation").unwrap())
            .args(["--authd-user", "60702"])
            .stdin(OwnedFd::from(stream))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = String::new();
        program.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert_eq!(program.wait().unwrap().success(), answered, "{uid}: {log}");
        assert!(answered || log.contains("has uid"), "{log}");
        let output = stranger.wait_with_output().unwrap();
        let got = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(got.parse::<usize>().unwrap_or(0) > 0, answered, "{uid} got {got:?} bytes");
    }
}

#[test]
fn replay_55_frames_that_are_too_long_cut_off_or_of_another_version_are_the_end() {
    let Some(place) = Place::new() else { return };
    let too_long = u32::try_from(MAX_FRAME + 1).unwrap().to_le_bytes().to_vec();
    let eight_mebibytes = (8 * 1024 * 1024 + 1_u32).to_le_bytes().to_vec();
    let whole = encode(&sign_in("sdrest-plain", ALICE.name)).unwrap();
    let length = u32::try_from(whole.len()).unwrap();
    let trailing = [&(length + 1).to_le_bytes()[..], &whole, b"x"].concat();
    let cut = [&length.to_le_bytes()[..], &whole[..whole.len() - 1]].concat();
    let older = [&length.to_le_bytes()[..], &[99], &whole[1..]].concat();
    let claims = [&7_u32.to_le_bytes()[..], &[5, 253, 255, 255, 255, 255, 127]].concat();
    for bytes in [
        too_long,
        eight_mebibytes,
        trailing,
        cut,
        older,
        claims,
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut talk = Talk::launch(&place, Launch::default());
        talk.stream.write_all(&bytes).unwrap();
        talk.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(talk.hear().is_err(), "{bytes:?}");
        let (status, _) = talk.ended();
        assert!(!status.success());
    }
}

/// One byte a second: the first frame has ten seconds, whoever sends it.
#[test]
fn replay_55_slow_loris_one_byte_a_second_is_given_up() {
    let Some(place) = Place::new() else { return };
    let mut talk = Talk::launch(&place, Launch::default());
    let began = Instant::now();
    let bytes = [&100_u32.to_le_bytes()[..], &[0; 100]].concat();
    for byte in bytes {
        if talk.stream.write_all(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(500));
    }
    assert!(talk.hear().is_err());
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert!(!talk.ended().0.success());
}

/// Ten thousand damaged frames: each is an error or a frame, never a panic and never a claim on memory.
#[test]
fn replay_55_random_bincode_never_panics() {
    let frames = [
        encode(&sign_in("stable-diffusion-rest", "alice")).unwrap(),
        encode(&account(AccountKey::Uid(7), Some("x"))).unwrap(),
        encode(&ToConversation::Answers(vec![
            Answer::new("secret".into()),
            Answer::new("x".into()),
        ]))
        .unwrap(),
        encode(&ToConversation::Verify {
            phc: "$argon2id$".into(),
            password: Answer::new("p".into()),
        })
        .unwrap(),
    ];
    // A fixed sequence (xorshift64), so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let mut understood = 0;
    for round in 0..10_000 {
        let mut bytes = frames[round % frames.len()].clone();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            bytes[at] = u8::try_from(next() % 256).unwrap();
        }
        bytes.truncate(next() % (bytes.len() + 1));
        understood += usize::from(decode::<ToConversation>(&bytes).is_ok());
        let _ = decode::<FromConversation>(&bytes);
    }
    assert!(understood < 10_000);
}

/// A worker that lies about its pictures: sides of nothing, of billions, and pixels that are not there. What arrives is
/// bare pixels, so no image decoder ever runs on a worker's word.
#[test]
fn replay_58_a_workers_picture_of_absurd_size_is_refused_while_it_is_decoded() {
    use bincode::Options;
    use sdrest_proto::image::Rgb8Image;
    let options = || bincode::DefaultOptions::new().with_limit(1 << 20);
    let decoded = |width: u32, height: u32, pixels: usize| {
        // The fields as they lie in a frame.
        let frame = options().serialize(&(width, height, vec![0_u8; pixels])).unwrap();
        options().deserialize::<Rgb8Image>(&frame).is_ok()
    };
    assert!(decoded(2, 3, 18));
    for (width, height, pixels) in [
        (0, 0, 0),
        (0, 5, 0),
        (u32::MAX, u32::MAX, 3),
        (4097, 1, 4097 * 3),
        (1 << 31, 1 << 31, 0),
        (2, 3, 17),
        (2, 3, 19),
    ] {
        assert!(!decoded(width, height, pixels), "{width}x{height}, {pixels} bytes");
    }
    // Two million bytes are claimed, three follow.
    let claims = [&[2, 3, 252][..], &2_000_000_u32.to_le_bytes(), &[1, 2, 3]].concat();
    assert!(options().deserialize::<Rgb8Image>(&claims).is_err());
}
