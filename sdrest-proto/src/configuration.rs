//! The one configuration file of an installation, as text (toml(5)): which tables it may have, and how the files
//! of `conf.d` add to it. Each daemon takes its own table and leaves the others' keys to them; a table that no
//! program reads is an error for all.

use serde::de::DeserializeOwned;
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Where it is, where no flag names another.
const FILE: &str = "/etc/sdrest/sdrest.toml";
/// The folder beside it, whose files come after it.
const FOLDER: &str = "/etc/sdrest/conf.d";
/// The tables, one for each program that reads any.
const TABLES: [&str; 3] = ["api", "authd", "worker"];

/// A file that is not right.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    #[error("{file} cannot be read: {source}")]
    Unreadable { file: String, source: io::Error },
    #[error("{file}: {message}")]
    Syntax { file: String, message: String },
    #[error("{file}: unknown table `{name}`; the tables are {}", TABLES.join(", "))]
    Table { file: String, name: String },
    #[error("{files}: [{table}]: {message}")]
    Key { files: String, table: &'static str, message: String },
}

/// Reads a file.
type Text = fn(&Path) -> io::Result<String>;

/// What the programs read with; nothing here opens a file itself.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    pub text: Text,
    /// The files of a folder.
    pub files: fn(&Path) -> io::Result<Vec<PathBuf>>,
}

fn unreadable(file: &Path, source: io::Error) -> ConfigurationError {
    ConfigurationError::Unreadable { file: file.display().to_string(), source }
}

/// One table of several files: a later file's keys replace an earlier one's.
#[derive(Debug)]
pub struct Configuration {
    own: &'static str,
    files: Vec<String>,
    keys: toml::Table,
}

impl Configuration {
    /// The table `own` of the file that a flag names, or of the usual ones as far as they are there.
    pub fn read(
        own: &'static str,
        named: Option<&Path>,
        disk: &Disk,
    ) -> Result<Self, ConfigurationError> {
        let mut read = Self { own, files: Vec::new(), keys: toml::Table::new() };
        if let Some(file) = named {
            read.add(file, (disk.text)(file))?;
            return Ok(read);
        }
        let none = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let main = Path::new(FILE);
        match (disk.text)(main) {
            Err(error) if none(&error) => {}
            text => read.add(main, text)?,
        }
        let folder = Path::new(FOLDER);
        let mut files = match (disk.files)(folder) {
            Err(error) if none(&error) => Vec::new(),
            files => files.map_err(|source| unreadable(folder, source))?,
        };
        files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        for file in files {
            read.add(&file, (disk.text)(&file))?;
        }
        Ok(read)
    }

    fn add(&mut self, file: &Path, text: io::Result<String>) -> Result<(), ConfigurationError> {
        let text = text.map_err(|source| unreadable(file, source))?;
        let file = file.display().to_string();
        let failed = |message: String| ConfigurationError::Syntax { file: file.clone(), message };
        let tables: toml::Table =
            text.parse().map_err(|error: toml::de::Error| failed(error.to_string()))?;
        for (name, table) in tables {
            if !TABLES.contains(&name.as_str()) {
                return Err(ConfigurationError::Table { file, name });
            }
            match table {
                toml::Value::Table(keys) if name == self.own => self.keys.extend(keys),
                toml::Value::Table(_) => {}
                other => {
                    return Err(failed(format!(
                        "`{name}` must be a table, got {}",
                        other.type_str()
                    )));
                }
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// Puts `flags` over it, and reads all of it as what the program calls its settings.
    pub fn settings<T: DeserializeOwned>(
        mut self,
        flags: toml::Table,
    ) -> Result<T, ConfigurationError> {
        self.keys.extend(flags);
        let files = if self.files.is_empty() { vec!["no file".to_owned()] } else { self.files };
        self.keys.try_into().map_err(|error: toml::de::Error| ConfigurationError::Key {
            files: files.join(", "),
            table: self.own,
            message: error.message().to_owned(),
        })
    }
}

/// The number of a user: one that is given as a number, or the one in the text of /etc/passwd (passwd(5)). The
/// daemons load no NSS module.
pub fn uid_of(user: &str, passwd: &str) -> Option<u32> {
    if let Ok(uid) = user.parse() {
        return Some(uid);
    }
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// Whether an account is in a group: as its primary one, or as a listed member. By the text of /etc/passwd and
/// /etc/group; groups of a directory do not count.
pub fn is_member(uid: u32, group: &str, passwd: &str, groups: &str) -> bool {
    let Some(line) = groups.lines().find(|line| line.split(':').next() == Some(group)) else {
        return false;
    };
    let (gid, members) = (line.split(':').nth(2), line.split(':').nth(3).unwrap_or_default());
    let own =
        |line: &&str| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(uid);
    passwd.lines().filter(own).any(|line| {
        let name = line.split(':').next().unwrap_or_default();
        let primary = gid.is_some() && line.split(':').nth(3) == gid;
        !name.is_empty() && (primary || members.split(',').any(|member| member == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        auth: Option<String>,
        throttle: Option<bool>,
        public_paths: Option<Vec<String>>,
    }

    fn missing<T>() -> io::Result<T> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }

    fn shut<T>() -> io::Result<T> {
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }

    const EMPTY: Disk = Disk { text: |_| missing(), files: |_| missing() };

    /// The main file, and two of the folder's four that count.
    const FULL: Disk = Disk {
        text: |file| match file.to_str() {
            Some(FILE) => Ok("[authd]\nauth = \"none\"\nthrottle = true\n[api]\nx = 1\n".into()),
            Some("/c/10.toml") => Ok("[authd]\nthrottle = false\npublic_paths = []\n".into()),
            Some("/c/20.toml") => Ok("[worker]\nx = 1\n".into()),
            _ => panic!("{} is no file of ours", file.display()),
        },
        files: |_| {
            let names = ["/c/20.toml", "/c/10.toml", "/c/10.toml~", "/c/README"];
            Ok(names.iter().map(PathBuf::from).collect())
        },
    };

    fn settings(disk: &Disk, flags: &str) -> Result<Settings, String> {
        let read = Configuration::read("authd", None, disk);
        read.and_then(|read| read.settings(flags.parse().unwrap()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn later_files_add_and_flags_win() {
        let read = settings(&FULL, "").unwrap();
        assert_eq!(read.auth.as_deref(), Some("none"));
        assert_eq!((read.throttle, read.public_paths), (Some(false), Some(vec![])));
        assert_eq!(settings(&FULL, "auth = \"pam\"").unwrap().auth.as_deref(), Some("pam"));
        assert_eq!(settings(&EMPTY, "").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        const NAMED: &str = "/x/named.toml";
        let cases: [(Text, &str); 7] = [
            (|_| Ok("[apy]\n".into()), "`apy`"),
            (|_| Ok("authd = 3\n".into()), "`authd`"),
            (|_| Ok("[authd\n".into()), "authd"),
            (|_| Ok("[authd]\nlissten = 1\n".into()), "`lissten`"),
            (|_| Ok("[authd]\nthrottle = \"often\"\n".into()), "boolean"),
            (|_| missing(), "cannot be read"),
            (|_| shut(), "cannot be read"),
        ];
        for (text, word) in cases {
            let disk = Disk { text, ..FULL };
            let read = Configuration::read("authd", Some(Path::new(NAMED)), &disk);
            let error = read.and_then(|read| read.settings::<Settings>(toml::Table::new()));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(NAMED) && error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_usual_file_that_is_there_must_be_readable() {
        for disk in [Disk { text: |_| shut(), ..EMPTY }, Disk { files: |_| shut(), ..EMPTY }] {
            let error = settings(&disk, "").unwrap_err();
            assert!(error.contains("/etc/sdrest/") && error.contains("cannot be read"), "{error}");
        }
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/:/bin/sh\nsdrest-api:x:991:991::/:/bin/false\nodd:x:::\nshort\n";
        assert_eq!(uid_of("sdrest-api", passwd), Some(991));
        assert_eq!(uid_of("12", passwd), Some(12));
        for unknown in ["odd", "short", "sdrest", "nobody-here"] {
            assert_eq!(uid_of(unknown, passwd), None, "{unknown}");
        }
    }

    #[test]
    fn members_are_listed_or_have_it_as_their_primary_group() {
        let passwd = "a:x:1001:1001::/:/\nb:x:1002:50::/:/\nc:x:1003:1003::/:/\nbroken\n";
        let groups = "other:x:51:c\nsdrest-admin:x:50:a,x\nsdrest-admins:x:52:c\nbroken\n";
        let member = |uid| is_member(uid, "sdrest-admin", passwd, groups);
        assert!(member(1001) && member(1002));
        assert!(!member(1003) && !member(9) && !is_member(1001, "none", passwd, groups));
        assert!(!is_member(1001, "sdrest-admin", "a:x:1001", "sdrest-admin"));
    }
}
