//! One model's folder, held open: files are opened beneath it by openat2(2) with RESOLVE_BENEATH, so that
//! neither `..` nor a symbolic link leads out of it, even while somebody changes the folder. What is opened
//! is checked on the descriptor, never by path a second time.

use crate::models::ModelError;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{FileStat, Mode, SFlag, fstat},
    unistd::geteuid,
};
use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

/// A folder that files are opened beneath.
#[derive(Debug)]
pub struct ModelFolder {
    fd: OwnedFd,
    owner: u32,
}

impl ModelFolder {
    /// A folder that the administrator named.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty())
            .map_err(|errno| refusal("the models folder", errno))?;
        Self::from_fd(fd, "the models folder")
    }

    /// The folder `name` in this one.
    pub fn subfolder(&self, name: &str) -> Result<Self, ModelError> {
        let fd = self.beneath(name, OFlag::O_DIRECTORY)?;
        Self::from_fd(fd, name)
    }

    fn from_fd(fd: OwnedFd, name: &str) -> Result<Self, ModelError> {
        let owner = fstat(&fd).map_err(|errno| refusal(name, errno))?.st_uid;
        Ok(Self { fd, owner })
    }

    fn beneath(&self, name: &str, more: OFlag) -> Result<OwnedFd, ModelError> {
        // O_NONBLOCK: opening a FIFO must not wait for a writer.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | more;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(self.fd.as_fd(), name, how).map_err(|errno| refusal(name, errno))
    }

    /// Opens a regular file that nobody but its trusted owners can change.
    pub fn file(&self, name: &str) -> Result<File, ModelError> {
        let fd = self.beneath(name, OFlag::empty())?;
        let stat = fstat(&fd).map_err(|errno| refusal(name, errno))?;
        self.check(name, &stat)?;
        Ok(File::from(fd))
    }

    fn check(&self, name: &str, stat: &FileStat) -> Result<(), ModelError> {
        let refuse = |reason: String| Err(ModelError::Refused { file: name.to_owned(), reason });
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return refuse("it is not a regular file".to_owned());
        }
        if ![0, self.owner, geteuid().as_raw()].contains(&stat.st_uid) {
            let uid = stat.st_uid;
            return refuse(format!(
                "its owner (uid {uid}) is neither root, nor the model folder's owner, nor the user of this process"
            ));
        }
        if stat.st_mode & Mode::S_IWOTH.bits() != 0 {
            return refuse("it is writable by everybody".to_owned());
        }
        Ok(())
    }

    /// Whether `name` can be opened as a file.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).is_ok()
    }

    /// The whole of a text file of at most `limit` bytes.
    pub fn text(&self, name: &str, limit: u64) -> Result<String, ModelError> {
        let corrupt = |reason: String| ModelError::Corrupt { file: name.to_owned(), reason };
        let mut text = Vec::new();
        let read = self.file(name)?.take(limit + 1).read_to_end(&mut text);
        read.map_err(|error| corrupt(format!("it cannot be read: {}", error.kind())))?;
        if text.len() as u64 > limit {
            return Err(corrupt(format!("it is larger than {limit} bytes")));
        }
        String::from_utf8(text).map_err(|_| corrupt("it is not UTF-8".to_owned()))
    }
}

fn refusal(name: &str, errno: Errno) -> ModelError {
    let file = name.to_owned();
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => ModelError::MissingFile { file },
        Errno::EXDEV | Errno::ELOOP => ModelError::Refused {
            file,
            reason: "a symbolic link leads out of the model's folder".to_owned(),
        },
        other => {
            ModelError::Refused { file, reason: format!("it cannot be opened: {}", other.desc()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    fn said(result: Result<File, ModelError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn only_what_lies_in_the_folder_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("model");
        fs::create_dir(&model).unwrap();
        fs::write(root.path().join("outside"), "x").unwrap();
        fs::write(model.join("inside"), "x").unwrap();
        symlink("inside", model.join("near")).unwrap();
        symlink("../outside", model.join("far")).unwrap();
        symlink("/etc/hostname", model.join("absolute")).unwrap();
        let folder = ModelFolder::open(&model).unwrap();
        folder.file("inside").unwrap();
        folder.file("near").unwrap();
        for name in ["far", "absolute", "../outside"] {
            assert!(said(folder.file(name)).ends_with("leads out of the model's folder"), "{name}");
        }
        assert_eq!(said(folder.file("nothing")), "nothing is missing");
    }

    #[test]
    fn only_a_regular_file_that_others_cannot_write_is_opened() {
        let model = tempfile::tempdir().unwrap();
        let folder = ModelFolder::open(model.path()).unwrap();
        fs::create_dir(model.path().join("folder")).unwrap();
        nix::unistd::mkfifo(&model.path().join("fifo"), Mode::S_IRUSR).unwrap();
        for name in ["folder", "fifo"] {
            assert!(said(folder.file(name)).ends_with("it is not a regular file"), "{name}");
        }
        let open = model.path().join("open");
        fs::write(&open, "x").unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o646)).unwrap();
        assert!(said(folder.file("open")).ends_with("it is writable by everybody"));
    }

    #[test]
    fn a_foreign_owner_is_refused() {
        let model = tempfile::tempdir().unwrap();
        let path = model.path().join("foreign");
        fs::write(&path, "x").unwrap();
        if let Err(error) = std::os::unix::fs::chown(&path, Some(12345), None) {
            println!("skipped: giving a file away needs root: {error}");
            return;
        }
        let folder = ModelFolder::open(model.path()).unwrap();
        assert!(said(folder.file("foreign")).contains("its owner (uid 12345)"));
    }

    #[test]
    fn a_text_has_a_bound() {
        let model = tempfile::tempdir().unwrap();
        fs::write(model.path().join("text"), "four").unwrap();
        let folder = ModelFolder::open(model.path()).unwrap();
        assert_eq!(folder.text("text", 4).unwrap(), "four");
        assert!(
            folder.text("text", 3).unwrap_err().to_string().ends_with("it is larger than 3 bytes")
        );
    }
}
