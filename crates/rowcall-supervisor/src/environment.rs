//! The environment a program starts with: little of ours, then what it needs.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

/// The variable that marks every process of a start, for finding those that left their process group.
pub const RUN_MARK: &str = "ROWCALL_RUN";

/// Variables of the daemon that programs may see: where things are, how text is written, how the network is reached.
/// Nothing here is a secret of ours; a proxy address may hold the user's own password, as for every other program.
const INHERITED: [&str; 23] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "ftp_proxy",
    "no_proxy",
    // Behind a proxy with its own certificate authority, the network is not reached without these.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

/// What is searched when no `PATH` is set, as POSIX systems do.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Addresses that are never reached through a proxy: the local API and the embedded stack.
const LOCAL: &str = "localhost,127.0.0.1,::1";

/// Keeps of the daemon's variables those that programs may see. The daemon passes `std::env::vars_os()`. Where a proxy is
/// set, this machine is excepted from it, or agents would look for the daemon at the proxy.
///
/// ```
/// let vars = [("PATH", "/bin"), ("LC_ALL", "C"), ("AWS_SECRET_ACCESS_KEY", "x")];
/// let kept = rowcall_supervisor::inherit(vars.map(|(k, v)| (k.into(), v.into())));
/// assert_eq!(kept.len(), 2);
/// ```
pub fn inherit(
    vars: impl IntoIterator<Item = (OsString, OsString)>,
) -> BTreeMap<OsString, OsString> {
    let mut kept: BTreeMap<OsString, OsString> = vars
        .into_iter()
        .filter(|(name, _)| {
            name.to_str()
                .is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_"))
        })
        .collect();
    let is_proxy = |name: &OsString| {
        let name = name.to_string_lossy().to_ascii_lowercase();
        name.ends_with("_proxy") && name != "no_proxy"
    };
    if kept.keys().any(is_proxy) {
        for name in ["NO_PROXY", "no_proxy"] {
            let value = kept.entry(name.into()).or_default();
            if value != "*" {
                if !value.is_empty() {
                    value.push(",");
                }
                value.push(LOCAL);
            }
        }
    }
    kept
}

/// The variables of one start. What is added later wins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables(BTreeMap<OsString, OsString>);

impl Variables {
    pub(crate) fn new(inherited: &BTreeMap<OsString, OsString>) -> Self {
        Self(inherited.clone())
    }

    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.insert(name.into(), value.as_ref().to_owned());
    }

    pub(crate) fn extend(&mut self, others: &BTreeMap<String, String>) {
        for (name, value) in others {
            self.set(name, value);
        }
    }

    /// Where programs are searched: the app's own `PATH` counts.
    pub(crate) fn path(&self) -> OsString {
        self.0
            .get(OsStr::new("PATH"))
            .filter(|path| !path.is_empty())
            .cloned()
            .unwrap_or_else(|| DEFAULT_PATH.into())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_behind() {
        let vars = [
            ("PATH", "/bin"),
            ("LC_CTYPE", "C.UTF-8"),
            ("https_proxy", "http://proxy"),
            ("PGPASSWORD", "secret"),
            ("ROWCALL_JWT_SECRET", "secret"),
            ("LD_PRELOAD", "x.so"),
        ];
        let kept = inherit(vars.map(|(name, value)| (name.into(), value.into())));
        let names: Vec<_> = kept.keys().map(|name| name.to_str().unwrap()).collect();
        let expected = ["LC_CTYPE", "NO_PROXY", "PATH", "https_proxy", "no_proxy"];
        assert_eq!(names, expected);
    }

    #[test]
    fn this_machine_is_reached_without_proxy() {
        let vars = [("HTTP_PROXY", "http://proxy"), ("no_proxy", "corp")];
        let kept = inherit(vars.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(kept[OsStr::new("no_proxy")], "corp,localhost,127.0.0.1,::1");
        assert_eq!(kept[OsStr::new("NO_PROXY")], "localhost,127.0.0.1,::1");
    }

    #[test]
    fn later_values_win() {
        let mut variables = Variables::new(&inherit([("PATH".into(), "/bin".into())]));
        assert_eq!(variables.path(), "/bin");
        variables.extend(&BTreeMap::from([(
            "PATH".to_owned(),
            "/opt/bin".to_owned(),
        )]));
        assert_eq!(variables.path(), "/opt/bin");
        assert_eq!(Variables::default().path(), DEFAULT_PATH);
    }
}
