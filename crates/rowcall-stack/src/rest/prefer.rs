//! The `Prefer` header.

/// `return=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// `representation`
    Representation,
    /// `minimal`
    Minimal,
    /// `headers-only`
    HeadersOnly,
}

/// `resolution=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// `merge-duplicates`
    Merge,
    /// `ignore-duplicates`
    Ignore,
}

/// `count=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// `exact`
    Exact,
    /// `planned`
    Planned,
    /// `estimated`
    Estimated,
}

/// `tx=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TxEnd {
    /// `commit`
    Commit,
    /// `rollback`
    Rollback,
}

/// What a request prefers. The first of a kind wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Preferences {
    /// `return=`
    pub returning: Option<Return>,
    /// `resolution=`
    pub resolution: Option<Resolution>,
    /// `missing=`: true for `default`.
    pub missing_default: Option<bool>,
    /// `count=`
    pub count: Option<Count>,
    /// `tx=`
    pub tx: Option<TxEnd>,
    /// `handling=`: true for `strict`.
    pub strict: Option<bool>,
    /// `timezone=`
    pub timezone: Option<String>,
    /// `max-affected=`
    pub max_affected: Option<i64>,
    /// What was not understood.
    pub invalid: Vec<String>,
}

impl Preferences {
    /// Reads all `Prefer` headers of a request.
    pub(crate) fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut preferences = Self::default();
        for preference in headers
            .into_iter()
            .flat_map(|header| header.split(','))
            .map(str::trim)
        {
            if !preference.is_empty() && !preferences.read(preference) {
                preferences.invalid.push(preference.to_owned());
            }
        }
        preferences
    }

    /// Takes one preference; false if it is unknown.
    fn read(&mut self, preference: &str) -> bool {
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        match (name.trim(), value.trim()) {
            ("return", "representation") => first(&mut self.returning, Return::Representation),
            ("return", "minimal") => first(&mut self.returning, Return::Minimal),
            ("return", "headers-only") => first(&mut self.returning, Return::HeadersOnly),
            ("resolution", "merge-duplicates") => first(&mut self.resolution, Resolution::Merge),
            ("resolution", "ignore-duplicates") => first(&mut self.resolution, Resolution::Ignore),
            ("missing", "default") => first(&mut self.missing_default, true),
            ("missing", "null") => first(&mut self.missing_default, false),
            ("count", "exact") => first(&mut self.count, Count::Exact),
            ("count", "planned") => first(&mut self.count, Count::Planned),
            ("count", "estimated") => first(&mut self.count, Count::Estimated),
            ("tx", "commit") => first(&mut self.tx, TxEnd::Commit),
            ("tx", "rollback") => first(&mut self.tx, TxEnd::Rollback),
            ("handling", "strict") => first(&mut self.strict, true),
            ("handling", "lenient") => first(&mut self.strict, false),
            ("timezone", zone) if !zone.is_empty() => first(&mut self.timezone, zone.to_owned()),
            ("max-affected", number) => match number.parse() {
                Ok(number) => first(&mut self.max_affected, number),
                Err(_) => return false,
            },
            _ => return false,
        }
        true
    }

    /// Whether `handling=strict` was asked for.
    pub(crate) fn is_strict(&self) -> bool {
        self.strict == Some(true)
    }

    /// The limit of rows affected, which counts under `handling=strict` only.
    pub(crate) fn strict_max_affected(&self) -> Option<i64> {
        self.max_affected.filter(|_| self.is_strict())
    }
}

fn first<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}
