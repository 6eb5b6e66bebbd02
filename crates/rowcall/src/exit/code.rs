//! Which errors have a code, in one place: what `?` carries up has lost its type.

use std::error::Error;

use rowcall_backend::{capture::CaptureError, migrate::MigrateError, queue::QueueError};
use rowcall_core::{ManifestError, SourceError, TableNameError, filter::FilterError};
use rowcall_engine::{BuildError, EngineError, OptionsError, store::StoreError};
use rowcall_stack::{
    auth::KeysError, bootstrap::BootstrapError, cluster::ClusterError, realtime::RealtimeError,
    stack::StackError,
};
use rowcall_supervisor::LaunchError;

use super::UserError;
use crate::{
    api::{ListenError, PolicyError},
    cli::key::KeyError,
    config::ConfigError,
    management::{LoginError, ManagementError},
    secrets::SecretError,
};

/// The code of an error: the deepest of its causes that has one, since that is the one that says most.
pub(crate) fn code_of(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        found = own(error).or(found);
        next = error.source();
    }
    found
}

fn own(error: &(dyn Error + 'static)) -> Option<&'static str> {
    macro_rules! first_of {
        ($($error:ty),* $(,)?) => {
            $(if let Some(error) = error.downcast_ref::<$error>() {
                return Some(error.code());
            })*
        };
    }
    first_of![
        BootstrapError,
        BuildError,
        CaptureError,
        ClusterError,
        ConfigError,
        EngineError,
        FilterError,
        KeyError,
        KeysError,
        LaunchError,
        ListenError,
        LoginError,
        ManagementError,
        ManifestError,
        MigrateError,
        OptionsError,
        PolicyError,
        QueueError,
        RealtimeError,
        SecretError,
        SourceError,
        StackError,
        StoreError,
        TableNameError,
        rowcall_backend::postgres::UrlError,
    ];
    error.downcast_ref::<UserError>().and_then(|user| user.code)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use rowcall_core::ErrorClass;

    use super::*;
    use crate::exit::Exit;

    #[test]
    fn the_deepest_cause_names_the_code() {
        let url = rowcall_backend::PostgresConfig::new("nonsense", "").unwrap_err();
        let refused = SourceError::because(ErrorClass::Permanent, "refused", url);
        let error = anyhow::Error::from(refused).context("cannot start");
        assert_eq!(code_of(error.as_ref()), Some("db-url"));
        let plain = SourceError::new(ErrorClass::Permanent, "refused");
        assert_eq!(code_of(&plain), Some("db-query"));
    }

    #[test]
    fn a_code_outlives_the_type_of_its_error() {
        let source = SourceError::new(ErrorClass::Unauthorized, "password authentication failed");
        let error = Err::<(), _>(UserError::of(Exit::Database, &source))
            .context("cannot look")
            .unwrap_err();
        assert_eq!(code_of(error.as_ref()), Some("db-refused"));
    }

    #[test]
    fn errors_of_others_have_none() {
        assert_eq!(code_of(&std::io::Error::other("broken")), None);
        assert_eq!(code_of(&UserError::new(Exit::Usage, "no")), None);
    }
}
