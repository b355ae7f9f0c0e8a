//! The log of everything that `serve` runs: each line under its program's name, to standard error or to the
//! file of --log-file. The last lines of each are kept, to say why it did not start.

use crate::session::terminal::printable;
use anyhow::{Context, Result, ensure};
use std::{
    collections::VecDeque,
    fs::{OpenOptions, Permissions},
    io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, stderr},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Longer lines are cut: a program that writes no line end must not fill the memory.
const LONGEST_LINE: u64 = 16 * 1024;
const KEPT_LINES: usize = 6;

#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Box<dyn Write + Send>>>);

/// Standard error, or the file: no symbolic link is followed to it, and it is readable by its owner only.
pub(crate) fn open(file: Option<&Path>) -> Result<Log> {
    let Some(path) = file else { return Ok(Log(Arc::new(Mutex::new(Box::new(stderr()))))) };
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits() | nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .with_context(|| {
            format!(
                "--log-file {} cannot be opened (symbolic links are not followed)",
                path.display()
            )
        })?;
    let found = opened.metadata().context("--log-file")?;
    ensure!(found.is_file(), "--log-file {} is not a regular file", path.display());
    let own = nix::unistd::geteuid().as_raw();
    ensure!(
        found.uid() == own,
        "--log-file {} belongs to uid {}, not to the caller",
        path.display(),
        found.uid()
    );
    opened.set_permissions(Permissions::from_mode(0o600)).context("--log-file")?;
    Ok(Log(Arc::new(Mutex::new(Box::new(opened)))))
}

impl Log {
    /// One line under the name of its program, which may be one that was taken over: its words move no cursor. A log
    /// that cannot be written stops nothing.
    pub(crate) fn line(&self, program: &str, text: &str) {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(to, "{program}: {}", printable(text)).and_then(|()| to.flush());
    }
}

/// What one program writes to its standard error, over all its restarts.
pub(crate) struct Source {
    writer: PipeWriter,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Source {
    /// Starts the thread that reads.
    pub(crate) fn new(name: &'static str, log: Log) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("no pipe can be made")?;
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&last);
        std::thread::Builder::new()
            .name(format!("log of {name}"))
            .spawn(move || pump(reader, name, &log, &kept))
            .context("no thread can be made")?;
        Ok(Self { writer, last })
    }

    /// Standard error for a new process.
    pub(crate) fn writer(&self) -> std::io::Result<PipeWriter> {
        self.writer.try_clone()
    }

    /// The last lines, for the reason of a failed start.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

fn pump(reader: PipeReader, name: &str, log: &Log, kept: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        log.line(name, text);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(text.to_owned());
        if kept.len() > KEPT_LINES {
            kept.pop_front();
        }
    }
}
