//! The superuser's password: kept in a file only we may read, put right when it does not fit.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postgres_protocol::password::scram_sha_256;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use super::account::Account;
use super::durable::replace_file;
use super::error::ClusterError;
use super::initdb::SUPERUSER;

/// What `supabase start` uses, for tools that expect it.
const WELL_KNOWN: &str = "postgres";
/// How long to wait for an answer of the server. It has just said that it is ready.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often to look whether the server has read its new rules.
const RELOAD_POLL: Duration = Duration::from_millis(10);
/// Access rules while the password is unknown. The socket lies in a directory that only the
/// server's user may enter, and no TCP connection is let in.
const ONLY_US: &str = "local all postgres trust\n";
/// The access rules that [`ONLY_US`] replaces for a moment.
const SAVED_RULES: &str = "pg_hba.conf.rowcall-saved";

/// Which password the superuser gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PasswordChoice {
    /// A random one, made once for each data directory.
    #[default]
    Generated,
    /// `postgres`, as `supabase start` has it: any local user can be superuser of this database.
    WellKnown,
}

impl PasswordChoice {
    /// The password there should be; the stored one stays when it is a generated one.
    pub(crate) fn desired(self, stored: Option<&str>) -> String {
        match (self, stored) {
            (Self::WellKnown, _) => WELL_KNOWN.to_owned(),
            (Self::Generated, Some(stored)) if stored != WELL_KNOWN => stored.to_owned(),
            (Self::Generated, _) => format!("{:032x}", rand::random::<u128>()),
        }
    }
}

/// Reads the stored password; none when the file is missing or empty.
pub(crate) fn read(path: &Path) -> Result<Option<String>, ClusterError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ClusterError::io("read", path)(error)),
    }
}

/// Stores the password.
pub(crate) fn write(path: &Path, password: &str) -> Result<(), ClusterError> {
    replace_file(path, format!("{password}\n").as_bytes())
}

/// The server whose password is looked after.
#[derive(Debug)]
pub(crate) struct Superuser {
    pub(crate) pg_dir: PathBuf,
    pub(crate) socket_dir: PathBuf,
    pub(crate) port: u16,
    pub(crate) secret: PathBuf,
    pub(crate) account: Account,
}

impl Superuser {
    /// Makes sure that `choice` holds, and returns the password that logs in.
    ///
    /// When the stored password is lost or was changed by somebody else, a new one is set: whoever
    /// owns the data directory may do that.
    pub(crate) async fn settle(&self, choice: PasswordChoice) -> Result<String, ClusterError> {
        self.restore_rules()?;
        let stored = read(&self.secret)?;
        let desired = choice.desired(stored.as_deref());
        let session = match &stored {
            Some(stored) => self.log_in(Some(stored)).await,
            None => Ok(None),
        };
        match session? {
            Some(_) if stored.as_ref() == Some(&desired) => return Ok(desired),
            Some(session) => self.set(&session, &desired).await?,
            None => self.reset(&desired).await?,
        }
        write(&self.secret, &desired)?;
        Ok(desired)
    }

    /// Logs in; `None` when the password is wrong.
    async fn log_in(&self, password: Option<&str>) -> Result<Option<Session>, ClusterError> {
        let mut config = Config::new();
        config
            .host_path(&self.socket_dir)
            .port(self.port)
            .user(SUPERUSER)
            .dbname("postgres")
            .application_name("rowcall")
            .connect_timeout(ANSWER_LIMIT);
        if let Some(password) = password {
            config.password(password);
        }
        match config.connect(NoTls).await {
            Ok((client, connection)) => {
                let driver = tokio::spawn(async move {
                    // What goes wrong here fails the query that waits for it.
                    drop(connection.await);
                });
                Ok(Some(Session { client, driver }))
            }
            Err(error) if refuses_password(&error) => Ok(None),
            Err(source) => Err(ClusterError::Sql {
                what: "log in to PostgreSQL",
                source,
            }),
        }
    }

    /// Sends the verifier, not the password, so that no log can hold it.
    async fn set(&self, session: &Session, password: &str) -> Result<(), ClusterError> {
        let verifier = scram_sha_256(password.as_bytes());
        let statement = format!("alter role {SUPERUSER} password '{verifier}'");
        session
            .run("set the superuser's password", &statement)
            .await
    }

    /// Sets a password without knowing the old one.
    async fn reset(&self, password: &str) -> Result<(), ClusterError> {
        tracing::warn!("the stored password does not log in; setting a new one");
        let rules = self.rules();
        fs::rename(&rules, self.saved_rules()).map_err(ClusterError::io("move away", &rules))?;
        let result = self.reset_with_open_rules(&rules, password).await;
        // Also after a failure; a daemon killed in between does it on its next start.
        self.restore_rules()?;
        let session = result?;
        session.reload().await?;
        self.wait_for_rules(false).await
    }

    async fn reset_with_open_rules(
        &self,
        rules: &Path,
        password: &str,
    ) -> Result<Session, ClusterError> {
        replace_file(rules, ONLY_US.as_bytes())?;
        self.account
            .take_over(rules)
            .map_err(ClusterError::io("hand over", rules))?;
        self.signal_reload()?;
        self.wait_for_rules(true).await?;
        let session = self.log_in(None).await?;
        let session = session.ok_or_else(|| self.lost())?;
        self.set(&session, password).await?;
        Ok(session)
    }

    /// Without a session the server is told by a signal to read its rules again.
    fn signal_reload(&self) -> Result<(), ClusterError> {
        let path = self.pg_dir.join("postmaster.pid");
        let text = fs::read_to_string(&path).map_err(ClusterError::io("read", &path))?;
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        let Some(pid) = pid else {
            return Err(self.lost());
        };
        let hangup = nix::sys::signal::Signal::SIGHUP;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), hangup)
            .map_err(|error| ClusterError::io("signal the server of", &path)(error.into()))
    }

    /// Waits until a login without a password works, or fails again.
    async fn wait_for_rules(&self, open: bool) -> Result<(), ClusterError> {
        let started = Instant::now();
        while self.log_in(None).await?.is_some() != open {
            if started.elapsed() > ANSWER_LIMIT {
                return Err(self.lost());
            }
            tokio::time::sleep(RELOAD_POLL).await;
        }
        Ok(())
    }

    fn restore_rules(&self) -> Result<(), ClusterError> {
        let rules = self.rules();
        match fs::rename(self.saved_rules(), &rules) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ClusterError::io("restore", &rules)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn rules(&self) -> PathBuf {
        self.pg_dir.join("pg_hba.conf")
    }

    fn saved_rules(&self) -> PathBuf {
        self.pg_dir.join(SAVED_RULES)
    }

    fn lost(&self) -> ClusterError {
        ClusterError::PasswordLost {
            path: self.secret.clone(),
        }
    }
}

/// Restores access rules that a daemon killed in the middle of a reset left open. Before the server
/// starts.
pub(crate) fn close_rules(pg_dir: &Path) -> Result<(), ClusterError> {
    let saved = pg_dir.join(SAVED_RULES);
    match fs::rename(&saved, pg_dir.join("pg_hba.conf")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ClusterError::io("restore", &saved)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A wrong password, or none where one is needed. The driver notices the latter itself.
fn refuses_password(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_PASSWORD,
        None => std::error::Error::source(error)
            .is_some_and(|source| source.to_string().contains("password")),
    }
}

/// A connection that is closed when dropped.
struct Session {
    client: Client,
    driver: tokio::task::JoinHandle<()>,
}

impl Session {
    async fn run(&self, what: &'static str, statement: &str) -> Result<(), ClusterError> {
        self.client
            .batch_execute(statement)
            .await
            .map_err(|source| ClusterError::Sql { what, source })
    }

    async fn reload(&self) -> Result<(), ClusterError> {
        self.run(
            "reload the server's configuration",
            "select pg_reload_conf()",
        )
        .await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
