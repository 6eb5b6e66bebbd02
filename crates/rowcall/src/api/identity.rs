//! Who calls: an app by its uuid, a developer by a key, or the operator by the session's token.

use std::{collections::HashMap, fmt, sync::Arc};

use axum::http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use rowcall_core::{AppId, Clock, IdSource};
use rowcall_engine::store::{AccessKey, AccessTable, AccessWatch, Decision, Store, StoreError};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::error::ApiError;

/// How much of a wrong app id an error repeats.
const SHOWN_ID: usize = 64;

/// A digest of a secret, for looking it up and comparing it.
pub(super) type Digest = [u8; 32];

/// SHA-256 of a secret.
pub fn digest(secret: &str) -> Digest {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether two secrets are the same, in time that does not depend on where they differ.
pub(super) fn same(one: &Digest, other: &Digest) -> bool {
    constant_time_eq::constant_time_eq(one, other)
}

/// Who calls a route of the SDK contract.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// An app, with the permissions that were granted to it.
    App {
        /// Its name.
        app: AppId,
        /// What its `x-app-id` says.
        uuid: Uuid,
    },
    /// A developer, who may do everything.
    Key {
        /// The key's name.
        name: String,
        /// Its digest, for names that must not hold the key.
        digest: Digest,
    },
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tag())
    }
}

impl Caller {
    /// The app, when it is one.
    pub(super) fn app(&self) -> Option<&AppId> {
        match self {
            Self::App { app, .. } => Some(app),
            Self::Key { .. } => None,
        }
    }

    /// `app:<name>` or `key:<name>`: whose event ids, tokens and files are meant.
    pub(super) fn tag(&self) -> String {
        match self {
            Self::App { app, .. } => format!("app:{app}"),
            Self::Key { name, .. } => format!("key:{name}"),
        }
    }

    /// What a task's `source_app` says: the app's uuid, or a name that is no secret.
    pub(super) fn source_app(&self) -> String {
        match self {
            Self::App { uuid, .. } => uuid.to_string(),
            Self::Key { name, .. } => format!("developer:{name}"),
        }
    }
}

/// A developer key that was presented and is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownKey {
    /// Its name.
    pub name: String,
    /// Whether it may also administer this machine.
    pub admin: bool,
}

/// Who may do what, as the store says now.
#[derive(Default)]
struct Directory {
    by_uuid: HashMap<Uuid, (AppId, bool)>,
    uuids: HashMap<AppId, Uuid>,
    keys: Vec<(Digest, KnownKey)>,
    grants: HashMap<AppId, HashMap<String, Decision>>,
}

impl From<AccessTable> for Directory {
    fn from(table: AccessTable) -> Self {
        let mut directory = Self::default();
        for one in table.apps {
            directory.uuids.insert(one.app.clone(), one.uuid);
            directory.by_uuid.insert(one.uuid, (one.app, one.enabled));
        }
        for AccessKey { name, hash, admin } in table.keys {
            let mut digest = Digest::default();
            if hex::decode_to_slice(&hash, &mut digest).is_ok() {
                directory.keys.push((digest, KnownKey { name, admin }));
            }
        }
        for grant in table.grants {
            if let Ok(app) = AppId::new(&grant.app) {
                directory
                    .grants
                    .entry(app)
                    .or_default()
                    .insert(grant.permission, grant.decision);
            }
        }
        directory
    }
}

/// The directory of callers: always what the store says, also when another process changed it a moment ago.
pub(super) struct Directories {
    watch: Mutex<AccessWatch>,
    current: RwLock<Arc<Directory>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    used: Mutex<Used>,
}

/// What was used since the last flush.
#[derive(Default)]
struct Used {
    permissions: HashMap<(AppId, &'static str), u64>,
    keys: HashMap<String, Timestamp>,
}

impl fmt::Debug for Directories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directories").finish_non_exhaustive()
    }
}

impl Directories {
    pub(super) fn new(
        store: &Store,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            watch: Mutex::new(store.watch_access()?),
            current: RwLock::default(),
            clock,
            ids,
            used: Mutex::default(),
        })
    }

    /// What the store says now. Looking takes microseconds (SQLite's shared memory), so it is done for every request: a
    /// revoked key is refused from that moment on.
    fn now(&self) -> Result<Arc<Directory>, StoreError> {
        let mut watch = self.watch.lock();
        let news = watch.changed(|| self.ids.uuid(), self.clock.now())?;
        if let Some(table) = news {
            let directory = Arc::new(Directory::from(table));
            *self.current.write() = Arc::clone(&directory);
            return Ok(directory);
        }
        drop(watch);
        Ok(Arc::clone(&self.current.read()))
    }

    /// Who the headers say it is; `None` when they say nothing. `x-app-id` counts before any key, because published apps
    /// send both; `body_app` is what the body's `app_id` says, where that counts.
    pub(super) fn caller(
        &self,
        headers: &HeaderMap,
        body_app: Option<&str>,
    ) -> Result<Option<Caller>, ApiError> {
        if let Some(id) = header_text(headers, "x-app-id")? {
            return self.app_by_uuid(id).map(Some);
        }
        if let Some(key) = header_text(headers, "x-api-key")?
            .map_or_else(|| bearer(headers), |key| Ok(Some(key)))?
        {
            let (digest, key) = self.key(key)?;
            return Ok(Some(Caller::Key {
                name: key.name,
                digest,
            }));
        }
        body_app
            .filter(|id| !id.is_empty())
            .map(|id| self.app_by_uuid(id))
            .transpose()
    }

    /// The app with this uuid, when there is one and it is switched on.
    pub(super) fn app_by_uuid(&self, id: &str) -> Result<Caller, ApiError> {
        let known = match Uuid::try_parse(id) {
            Ok(uuid) => self
                .now()?
                .by_uuid
                .get(&uuid)
                .filter(|(_, enabled)| *enabled)
                .map(|(app, _)| Caller::App {
                    app: app.clone(),
                    uuid,
                }),
            Err(_) => None,
        };
        known.ok_or_else(|| {
            let id: String = id.chars().take(SHOWN_ID).collect();
            ApiError::new(
                StatusCode::UNAUTHORIZED,
                "INVALID_APP_ID",
                format!("Invalid app ID: {id}"),
            )
        })
    }

    /// The uuid of an app.
    pub(super) fn uuid_of(&self, app: &AppId) -> Result<Option<Uuid>, StoreError> {
        Ok(self.now()?.uuids.get(app).copied())
    }

    /// A developer key, when it is known and not revoked.
    pub(super) fn key(&self, key: &str) -> Result<(Digest, KnownKey), ApiError> {
        let given = digest(key);
        let directory = self.now()?;
        // Every key is compared, so that the time says nothing about which one was close.
        let found = directory
            .keys
            .iter()
            .filter(|(known, _)| same(known, &given))
            .fold(None, |_, (_, key)| Some(key.clone()));
        let Some(found) = found else {
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "INVALID_API_KEY",
                "Invalid API key",
            ));
        };
        self.used
            .lock()
            .keys
            .insert(found.name.clone(), self.clock.now());
        Ok((given, found))
    }

    /// What was decided about a permission of an app.
    pub(super) fn decision(
        &self,
        app: &AppId,
        permission: &str,
    ) -> Result<Option<Decision>, StoreError> {
        let directory = self.now()?;
        Ok(directory
            .grants
            .get(app)
            .and_then(|grants| grants.get(permission))
            .copied())
    }

    /// Counts a use of a permission; it is written now and then.
    pub(super) fn used(&self, app: &AppId, permission: &'static str) {
        *self
            .used
            .lock()
            .permissions
            .entry((app.clone(), permission))
            .or_default() += 1;
    }

    /// Writes what was used since the last time.
    pub(super) fn write_uses(&self, store: &Store) -> Result<(), StoreError> {
        let used = std::mem::take(&mut *self.used.lock());
        if !used.permissions.is_empty() {
            let uses: Vec<_> = used
                .permissions
                .into_iter()
                .map(|((app, permission), count)| (app, permission.to_owned(), count))
                .collect();
            store.count_uses(&uses, self.clock.now())?;
        }
        for (name, at) in used.keys {
            store.key_used(&name, at)?;
        }
        Ok(())
    }
}

/// The answer to a request without any credential.
pub(super) fn nobody() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "MISSING_APP_ID",
        "Missing required header: x-app-id",
    )
}

/// A header's text; empty counts as absent. A text that is not ASCII is nobody's credential.
fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    match headers.get(name) {
        None => Ok(None),
        Some(value) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Err(_) => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "INVALID_APP_ID",
                format!("The header {name} is not readable"),
            )),
        },
    }
}

/// What stands behind `Authorization: Bearer`; a bare `Bearer` counts as absent.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(text) = header_text(headers, header::AUTHORIZATION.as_str())? else {
        return Ok(None);
    };
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    Ok(Some(token.trim())
        .filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()))
}
