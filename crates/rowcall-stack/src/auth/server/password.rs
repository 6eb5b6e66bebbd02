//! Passwords: hashed with argon2id, off the async threads, a few at a time.

use std::sync::{Arc, LazyLock};

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use tokio::sync::Semaphore;

use super::error::{Answered, AuthError};

/// Longer passwords are refused; the official server's hash cuts there.
pub(super) const MAX_PASSWORD_CHARS: usize = 72;
/// How many hashes are computed at once; each takes some 20 MB and a core.
const CONCURRENT_HASHES: usize = 2;

/// A hash of nothing anybody knows, so that an unknown address takes as long as a wrong password.
static DECOY: LazyLock<String> = LazyLock::new(|| hash_now("decoy").unwrap_or_default());

/// Computes and checks hashes.
#[derive(Debug, Clone)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(CONCURRENT_HASHES)),
        }
    }
}

impl Passwords {
    /// The hash of a new password.
    pub(super) async fn hash(&self, password: &str) -> Answered<String> {
        let password = password.to_owned();
        self.blocking(move || hash_now(&password))
            .await?
            .ok_or_else(AuthError::unexpected)
    }

    /// Whether `password` is the one hashed; takes as long without a hash.
    pub(super) async fn matches(&self, hash: Option<&str>, password: &str) -> Answered<bool> {
        let (hash, password) = (hash.map(str::to_owned), password.to_owned());
        self.blocking(move || match hash {
            Some(hash) if !hash.is_empty() => matches_now(&hash, &password),
            _ => {
                matches_now(&DECOY, &password);
                false
            }
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Answered<T> {
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|_| AuthError::unexpected())?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| AuthError::unexpected())
    }
}

fn hash_now(password: &str) -> Option<String> {
    let salt = SaltString::generate(&mut OsRng);
    Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .ok()
        .map(|hash| hash.to_string())
}

/// Argon2 is ours; bcrypt is what users who came from Supabase have.
fn matches_now(hash: &str, password: &str) -> bool {
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

/// Checks a new password.
pub(super) fn check_new(password: &str, least: usize) -> Answered<()> {
    let length = password.chars().count();
    if password.len() > MAX_PASSWORD_CHARS {
        return Err(AuthError::bad(
            "validation_failed",
            format!("Password cannot be longer than {MAX_PASSWORD_CHARS} characters"),
        ));
    }
    if length < least {
        return Err(AuthError::weak_password(least));
    }
    Ok(())
}
