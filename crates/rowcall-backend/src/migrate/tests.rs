//! What can be said of migrations without a database.

use super::{MIGRATIONS, Record, check, error::MigrateError};

fn record(version: i32, checksum: String) -> Record {
    Record {
        version,
        name: "x".into(),
        checksum,
    }
}

#[test]
fn versions_count_up_from_one() {
    let versions: Vec<i32> = MIGRATIONS.iter().map(|one| one.version).collect();
    let expected: Vec<i32> = (1..).take(MIGRATIONS.len()).collect();
    assert_eq!(versions, expected);
}

#[test]
fn a_changed_file_and_a_newer_database_are_refused() {
    let first = record(1, MIGRATIONS[0].checksum());
    assert!(check(&[first]).is_ok());
    let changed = check(&[record(1, "other".into())]).unwrap_err();
    assert!(matches!(changed, MigrateError::ChecksumDiffers { .. }));
    assert!(changed.to_string().contains("0001_x"));
    let newer = check(&[record(999, String::new())]).unwrap_err();
    assert!(newer.to_string().contains("Update this program"));
}
