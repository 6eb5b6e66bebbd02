//! A Supabase project as the configuration, the store of secrets and the apps describe it.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use rowcall_backend::{
    CustomConfig, SupabaseBackend, SupabaseConfig, SupabaseDriver,
    supabase::{Identity, TokenKeeper, UserTokens, Wanted},
};
use rowcall_core::{App, MachineId, manifest::Mode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, BackendKind, Config},
    exit::{Exit, UserError},
    secrets::{Kept, Name, Secrets},
    system::SystemClock,
};

/// A project and how it is spoken to.
#[derive(Clone)]
pub struct Project {
    /// Its URL.
    pub url: String,
    /// What requests carry.
    pub key: SecretString,
    /// The key that row level security holds back, where one is known: for apps.
    pub anon_key: Option<SecretString>,
    /// The app that gives the locks, in custom mode.
    pub custom: Option<CustomConfig>,
    user: Option<UserTokens>,
    keeper: Arc<Keeper>,
    settings: config::Backend,
}

impl std::fmt::Debug for Project {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Project")
            .field("url", &self.url)
            .field("custom", &self.custom)
            .finish_non_exhaustive()
    }
}

impl Project {
    /// The project that the configuration names; `apps` may name the app of custom mode. Reads the store of secrets, which
    /// may wait for a keyring.
    pub fn of(config: &Config, data_dir: &Path, apps: &[App]) -> anyhow::Result<Self> {
        let settings = config.backend.clone();
        let url = settings
            .url
            .clone()
            .context("backend.url is checked when the configuration is read")?;
        let secrets = Secrets::of(config, data_dir);
        let anon_key = match &settings.key {
            Some(key) => Some(SecretString::from(key.expose().to_owned())),
            None => secrets.get(&Name::Key(url.clone()))?,
        };
        let service_key = settings.service_key.as_ref();
        let key = service_key
            .map(|key| SecretString::from(key.expose().to_owned()))
            .or_else(|| anon_key.clone())
            .ok_or_else(|| {
                UserError::new(Exit::Usage, format!("no key of the project {url} is known"))
                    .help("set backend.key (ROWCALL__BACKEND__KEY) to its anon or publishable key, or store it with `rowcall login --key`")
            })?;
        let user = match secrets.get(&Name::Session(url.clone()))? {
            Some(kept) if service_key.is_none() => Some(read_session(&kept)?),
            _ => None,
        };
        let custom = match settings.kind() {
            BackendKind::Custom => Some(custom(&settings, apps)?),
            BackendKind::Postgres | BackendKind::Supabase => None,
        };
        let keeper = Arc::new(Keeper {
            secrets,
            name: Name::Session(url.clone()),
        });
        Ok(Self {
            anon_key: anon_key.filter(|key| !is_service_key(key)),
            url,
            key,
            custom,
            user,
            keeper,
            settings,
        })
    }

    /// A backend on the project for a machine. The driver gives signals once it runs; commands do without.
    pub fn backend(
        &self,
        machine: &MachineId,
        wanted: Wanted,
    ) -> anyhow::Result<(SupabaseBackend, SupabaseDriver)> {
        let identity = Identity {
            machine: machine.clone(),
            user_email: self.settings.user_email.clone(),
            hostname: super::host_name(),
        };
        let clock = Arc::new(SystemClock);
        let mut config = SupabaseConfig::new(&self.url, self.key.clone(), identity, clock);
        config.user.clone_from(&self.user);
        config.keeper = Some(Arc::clone(&self.keeper) as _);
        config.request_timeout = self.settings.request_timeout.0;
        config.apps = wanted.apps;
        config.selectors = wanted.selectors;
        let made = match &self.custom {
            None => SupabaseBackend::new(config),
            Some(custom) => SupabaseBackend::custom(config, custom),
        };
        Ok(made.map_err(|error| UserError::of(Exit::Usage, &error))?)
    }

    /// Whether a user is signed in.
    pub fn is_signed_in(&self) -> bool {
        self.user.is_some()
    }

    /// Whether requests carry a key that row level security does not hold back.
    pub fn is_privileged(&self) -> bool {
        is_service_key(&self.key)
    }
}

/// What the handlers of apps listen to. Agents that clients name are no tables of the project.
pub fn wanted(apps: &[App]) -> Wanted {
    let routes = apps.iter().flat_map(App::subscribed_routes);
    Wanted {
        apps: apps.iter().map(|app| app.name.clone()).collect(),
        selectors: routes.map(|route| route.selector).collect(),
    }
}

/// Says which apps ask for another mode than the daemon works in.
pub(super) fn warn_of_modes(kind: BackendKind, apps: &[App]) {
    for app in apps {
        let mode = app.subscription.as_ref().map(|one| one.mode);
        match (kind, mode) {
            (BackendKind::Postgres | BackendKind::Supabase, Some(Mode::Custom)) => tracing::warn!(
                app.id = %app.name,
                "the manifest says mode \"custom\", but this daemon takes locks itself: set backend.kind = \"custom\" to have the app asked"
            ),
            (BackendKind::Custom, Some(Mode::Compatible)) => tracing::warn!(
                app.id = %app.name,
                "the manifest says mode \"compatible\", but this daemon asks the app at backend.app_url for every lock"
            ),
            _ => {}
        }
    }
}

fn custom(settings: &config::Backend, apps: &[App]) -> anyhow::Result<CustomConfig> {
    let app_url = match &settings.app_url {
        Some(url) => url.clone(),
        None => {
            let with_mode = apps.iter().filter(|app| {
                let mode = app.subscription.as_ref().map(|one| one.mode);
                mode == Some(Mode::Custom)
            });
            let ports: Vec<u16> = with_mode.filter_map(|app| app.port).collect();
            let [port] = ports[..] else {
                return Err(UserError::new(
                    Exit::Usage,
                    "custom mode: it is not known where the app is that gives the locks",
                )
                .help("set backend.app_url, such as http://127.0.0.1:8080, or a `port` in the manifest of the one app with mode \"custom\"")
                .into());
            };
            format!("http://127.0.0.1:{port}")
        }
    };
    Ok(CustomConfig {
        lock_url: settings.lock_url.clone(),
        webhook_url: settings.webhook_url.clone(),
        timeout: settings.app_timeout.0,
        ..CustomConfig::new(app_url)
    })
}

/// Whether row level security does not hold a key back, as far as it can be seen.
pub fn is_service_key(key: &SecretString) -> bool {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let key = key.expose_secret();
    if key.starts_with("sb_secret_") {
        return true;
    }
    let claims = key.split('.').nth(1);
    let claims = claims.and_then(|text| {
        BASE64_URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .ok()
    });
    let claims = claims.and_then(|json| serde_json::from_slice::<serde_json::Value>(&json).ok());
    claims.is_some_and(|claims| claims["role"] == "service_role")
}

#[derive(Serialize, Deserialize)]
struct Session {
    access_token: String,
    refresh_token: Option<String>,
}

fn read_session(kept: &SecretString) -> anyhow::Result<UserTokens> {
    let session: Session = serde_json::from_str(kept.expose_secret()).map_err(|_| {
        UserError::new(Exit::Usage, "the stored user session cannot be read")
            .help("sign in again with `rowcall login --user EMAIL`")
    })?;
    Ok(UserTokens {
        access: session.access_token.into(),
        refresh: session.refresh_token.map(Into::into),
    })
}

/// The text under which a session is kept.
pub fn session_text(tokens: &UserTokens) -> SecretString {
    let expose = |secret: &SecretString| secret.expose_secret().to_owned();
    let session = Session {
        access_token: expose(&tokens.access),
        refresh_token: tokens.refresh.as_ref().map(expose),
    };
    let text = serde_json::to_string(&session).expect("texts are JSON");
    text.into()
}

/// Keeps renewed tokens where secrets are kept.
struct Keeper {
    secrets: Secrets,
    name: Name,
}

impl TokenKeeper for Keeper {
    fn keep(&self, tokens: &UserTokens) {
        let (secrets, name, text) = (
            self.secrets.clone(),
            self.name.clone(),
            session_text(tokens),
        );
        // A keyring may block, and whoever renewed the token waits for nothing of this.
        let write = move || match secrets.put(&name, &text) {
            Ok(Kept::Keyring | Kept::File) => {}
            Ok(Kept::FileInstead { why }) => tracing::warn!(
                %why,
                "the system's keyring cannot be used: the user's renewed session is kept in secrets.json"
            ),
            Err(error) => tracing::error!(
                %error,
                "the user's renewed session cannot be kept: sign in again after the next start"
            ),
        };
        if let Err(error) = std::thread::Builder::new()
            .name("secrets".to_owned())
            .spawn(write)
        {
            tracing::error!(%error, "the user's renewed session cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_keys_are_known_by_their_looks() {
        let jwt = |role: &str| {
            use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
            let claims = BASE64_URL_SAFE_NO_PAD.encode(format!("{{\"role\":\"{role}\"}}"));
            format!("eyJhbGciOiJIUzI1NiJ9.{claims}.x")
        };
        for (key, service) in [
            ("sb_secret_abc".to_owned(), true),
            ("sb_publishable_abc".to_owned(), false),
            (jwt("service_role"), true),
            (jwt("anon"), false),
            ("rubbish".to_owned(), false),
        ] {
            assert_eq!(is_service_key(&key.clone().into()), service, "{key}");
        }
    }

    #[test]
    fn the_app_of_custom_mode_is_found_by_its_port() {
        let settings = config::Backend::default();
        let text = include_str!("../../../../examples/custom-mode/app.json");
        let app = App::parse(text, None).unwrap();
        let found = custom(&settings, std::slice::from_ref(&app)).unwrap();
        assert_eq!(found.app_url, "http://127.0.0.1:8080");
        let error = custom(&settings, &[]).unwrap_err();
        assert!(error.to_string().contains("custom mode"), "{error}");
    }
}
