//! What is said of mistakes; and that no text is too much.

use proptest::prelude::{any, prop};
use proptest::proptest;

use super::*;
use crate::config::reader::Table as _;
use crate::config::schema::{Place, ProxyTable, Settings};

#[test]
fn mistakes_are_shown_with_their_place_and_advice() {
    let files = files("tests/data/config/invalid", "toml");
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(file).unwrap();
        let shown = match Config::parse(name, &text) {
            Ok(loaded) => {
                assert!(!loaded.warnings.is_empty(), "{name} is right");
                loaded.warnings.to_string()
            }
            Err(errors) => errors.to_string(),
        };
        let expected_file = file.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expected_file, &shown).unwrap();
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if shown != expected {
            wrong.push(format!(
                "==== {name}, expected:\n{expected}\n==== got:\n{shown}"
            ));
        }
    }
    let help = "UPDATE_EXPECT=1 rewrites the expected texts";
    assert!(wrong.is_empty(), "{}\n{help}", wrong.join("\n"));
    // At least those that there were once: they have been found.
    assert!(files.len() >= 40, "files in tests/data/config/invalid");
}

#[test]
fn a_diagnostic_can_be_asked_for_its_parts() {
    let errors = Config::parse("x.toml", "[server]\n  threads = true\n").unwrap_err();
    assert_eq!(
        (errors.n_errors(), errors.n_warnings(), errors.is_empty()),
        (2, 0, false)
    );
    let parts: Vec<_> = (errors.iter())
        .map(|error| (error.severity(), error.file(), error.line(), error.column()))
        .collect();
    let place = |line, column| (Severity::Error, Some("x.toml"), line, column);
    assert_eq!(parts, [place(None, None), place(Some(2), Some(13))]);
    let [_, error] = &errors.iter().collect::<Vec<_>>()[..] else {
        panic!("two errors")
    };
    assert_eq!(
        error.message(),
        "`threads` must be a whole number, not a boolean"
    );
    assert_eq!(error.advice(), "write a whole number, like `100`");
}

#[test]
fn a_file_that_cannot_be_read_is_a_diagnostic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ssecast.toml");
    let shown = |file: &Path| Config::load(file).unwrap_err().to_string();
    assert!(shown(&file).contains("No such file"), "{}", shown(&file));
    assert!(
        shown(folder.path()).contains("name the file in it"),
        "{}",
        shown(folder.path())
    );
    fs::write(&file, b"[server]\nthreads = '\xff'\n").unwrap();
    assert!(
        shown(&file).contains("not UTF-8 (line 2)"),
        "{}",
        shown(&file)
    );
    fs::write(&file, MINIMAL).unwrap();
    assert_eq!(Config::load(&file).unwrap().config, parse(MINIMAL).config);
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let text = format!("x = {}", "[".repeat(100_000));
    assert!(Config::parse("test.toml", &text).is_err());
    let text = format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Config::parse("test.toml", &text).is_err());
    let text = format!("{} = 1", ["a"; 100_000].join("."));
    assert!(Config::parse("test.toml", &text).is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_config(&data);
    }

    #[test]
    fn a_file_with_one_part_replaced_is_read_without_a_panic(
        at in 0..REFERENCE.len(),
        length in 0..40usize,
        part in "[\\[\\]{}=.,\"'#\n\r\t a-z0-9é日\\\\]{0,12}",
    ) {
        let mut data = REFERENCE.as_bytes().to_vec();
        let end = (at + length).min(data.len());
        data.splice(at..end, part.bytes());
        fuzz_config(&data);
    }

    #[test]
    fn any_value_of_any_key_is_read_without_a_panic(key in 0..110usize, value in "\\PC{0,20}") {
        let keys = [Place::KEYS, Settings::KEYS, ProxyTable::KEYS].concat();
        let key = keys[key % keys.len()];
        for value in [value.clone(), format!("{value:?}"), format!("{{ {value} = 1 }}")] {
            fuzz_config(format!("{MINIMAL}{key} = {value}\n").as_bytes());
            let proxy = format!("{LISTENER}[proxies.api]\n{key} = {value}\n");
            fuzz_config(proxy.as_bytes());
        }
    }
}
