//! The order of settings, and what is wrong with them.
#![allow(clippy::unwrap_used)]
use super::*;
use burn_ad::data::TrainLimit;
use burn_ad::method::npad::{ImageScore, Reduction};

fn file(name: &str, text: &str) -> Result<Settings> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    Settings::resolve(Some(&path), &[], Vec::new())
}

fn npad(settings: &Settings) -> burn_ad::method::npad::NpadConfig {
    match &settings.method {
        MethodConfig::Npad(config) => config.clone(),
        other => panic!("{other} is not of N-pad's family"),
    }
}

#[test]
fn flags_win_over_set_over_file_over_preset() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(
        &path,
        "[train]\nseed = 1\nbatch_size = 2\n[data]\nsize = 64\n",
    )
    .unwrap();
    let sets = ["train.seed=5".to_owned(), "train.batch_size=3".to_owned()];
    let flag = Flag::given("--seed", ["train", "seed"], Some(9)).unwrap();
    let settings = Settings::resolve(Some(&path), &sets, flag.into_iter().collect()).unwrap();
    let train = &settings.train;
    assert_eq!(
        (train.seed, train.batch_size, settings.data.size),
        (9, 3, 64)
    );
    assert_eq!(train.target_fpr, 0.01);
}

#[test]
fn a_file_chooses_its_preset_and_changes_nested_settings() {
    let text = "[method]\nname = 'patchcore'\nsigma = 2\nreduction = { subset = 100 }\n\
                image_score = 'max'\n[method.bank]\nshare = 0.1\n";
    let config = npad(&file("a.toml", text).unwrap());
    let preset = burn_ad::method::npad::NpadConfig::patchcore();
    assert_eq!(config.sigma, 2.0);
    assert_eq!(config.reduction, Reduction::Subset(100));
    assert_eq!(config.image_score, ImageScore::Max);
    assert_eq!(config.bank.share, 0.1);
    assert_eq!(config.bank.max_members, preset.bank.max_members);
    assert_eq!(config.taps, preset.taps);
}

#[test]
fn an_unknown_key_names_the_nearest_and_the_file() {
    for (text, nearest) in [
        ("[method]\nsigm = 2\n", "method.sigma"),
        ("[method.gaussian]\nradus = 2\n", "method.gaussian.radius"),
        ("seed = 2\n", "train.seed"),
        ("[trian]\nseed = 2\n", "train"),
    ] {
        let error = file("a.toml", text).unwrap_err();
        let message = error.to_string();
        assert!(error.is_usage(), "{message}");
        assert!(message.contains("a.toml"), "{message}");
        assert!(
            message.contains(&format!("did you mean '{nearest}'")),
            "{message}"
        );
    }
}

#[test]
fn a_value_that_does_not_fit_names_its_key() {
    for (name, text, part) in [
        ("a.toml", "[method]\nsigma = 'wide'\n", "method.sigma"),
        ("a.json", r#"{"data": {"fit": "stretch"}}"#, "data.fit"),
        (
            "a.json",
            r#"{"method": {"reduction": {"halve": 2}}}"#,
            "method.reduction",
        ),
        ("a.json", r#"{"method": {"name": "padm"}}"#, "padm"),
        ("a.toml", "[train]\nseed = -1\n", "train.seed"),
        ("a.toml", "method = 3\n", "method"),
        ("a.toml", "method = ", "a.toml"),
        ("a.yaml", "", ".toml or .json"),
    ] {
        let error = file(name, text).unwrap_err();
        assert!(error.is_usage(), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn resolved_settings_read_back_the_same() {
    for method in MethodConfig::PRESETS {
        let sets = [
            format!("method.name={method}"),
            "train.protocol=paper".to_owned(),
        ];
        let settings = Settings::resolve(None, &sets, Vec::new()).unwrap();
        assert_eq!(settings.train.calibration_share, 0.0);
        let again = file("resolved.json", &settings.to_value().to_string()).unwrap();
        assert_eq!(again, settings);
    }
}

#[test]
fn a_class_is_named_or_numbered() {
    for text in ["normal_class = 3", "normal_class = '3'"] {
        let settings = file("a.toml", &format!("[data]\n{text}\ntest_limit = 7\n")).unwrap();
        assert_eq!(settings.to_value()["data"]["normal_class"], json!("3"));
        let options = settings.index_options();
        assert_eq!(options.normal_class.as_deref(), Some("3"));
        assert_eq!((options.train_limit, options.test_limit), (None, Some(7)));
    }
    let error = file("a.toml", "[data]\nnormal_class = [3]\n").unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("data.normal_class"));
}

#[test]
fn limits_and_contamination_are_numbers_or_percent() {
    for (text, limit, share) in [
        ("train_limit = 7", json!(7), 0.0),
        (
            "train_limit = '20%'\ncontamination = '10%'",
            json!("20%"),
            0.1,
        ),
        (
            "train_limit = ' 20.0 %'\ncontamination = 0.1",
            json!("20%"),
            0.1,
        ),
    ] {
        let settings = file("a.toml", &format!("[data]\n{text}\n")).unwrap();
        assert_eq!(settings.to_value()["data"]["train_limit"], limit);
        assert_eq!(settings.to_value()["data"]["contamination"], json!(share));
        let again = file("resolved.json", &settings.to_value().to_string()).unwrap();
        assert_eq!(again, settings);
    }
    let set = |text: &str| Settings::resolve(None, &[text.to_owned()], Vec::new());
    let limit = set("data.train_limit=60%").unwrap().data.train_limit;
    assert_eq!(limit, Some(TrainLimit::Percent(60.0)));
    assert_eq!(
        set("data.contamination=5%").unwrap().data.contamination,
        0.05
    );
    for (wrong, parts) in [
        ("data.train_limit=0.2", ["data.train_limit", "20%"]),
        ("data.train_limit=120%", ["data.train_limit", "up to 100%"]),
        ("data.contamination=100%", ["contamination", "[0, 1)"]),
        ("data.contamination=10", ["contamination", "10%"]),
        ("data.contamination=some", ["data.contamination", "'some'"]),
    ] {
        let error = set(wrong).unwrap_err();
        assert!(error.is_usage(), "{error}");
        let message = error.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn known_anomalies_are_counted_or_a_share() {
    let text = "[anomalies]\ncount = { share = 0.05 }\ndraw = 3\n";
    let settings = file("a.toml", text).unwrap();
    assert_eq!(settings.anomalies.draw, Some(3));
    for wrong in ["count = { share = 1.0 }", "draw = 0", "draw = -1"] {
        let error = file("a.toml", &format!("[anomalies]\n{wrong}\n")).unwrap_err();
        assert!(error.is_usage(), "{error}");
    }
}

#[test]
fn contradictions_are_usage_errors() {
    let sets = ["backbone.random=true", "backbone.weights=x.pth"].map(str::to_owned);
    assert!(
        Settings::resolve(None, &sets, Vec::new())
            .unwrap_err()
            .is_usage()
    );
}

#[test]
fn an_augmentation_is_named_or_set() {
    let augment = |value: &str| {
        let sets = [
            "method.name=bgad".to_owned(),
            format!("method.augment={value}"),
        ];
        let settings = Settings::resolve(None, &sets, Vec::new())?;
        Ok::<Value, Error>(settings.to_value()["method"]["augment"].clone())
    };
    assert_eq!(augment("none").unwrap(), json!("none"));
    assert!(augment("perlin-code").unwrap()["perlin"].is_object());
    assert_eq!(
        augment("{ rpag = { attempts = 3 } }").unwrap(),
        json!({ "rpag": { "attempts": 3 } })
    );
    let error = augment("rpga").unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("--set method.augment=rpga"),
        "{error}"
    );
}

#[test]
fn a_variant_wins_over_flags_and_chooses_the_preset() {
    let flag = Flag::given("--method", ["method", "name"], Some("padim")).unwrap();
    let over = |text: &str| Override {
        origin: "--variant 'x'".to_owned(),
        text: text.to_owned(),
    };
    let variant = [over("method.name=nfad"), over("method.schedule.batch=4")];
    let flags: Vec<Flag> = flag.into_iter().collect();
    let settings = Settings::resolve_variant(None, &[], flags.clone(), &variant).unwrap();
    let MethodConfig::Bgad(config) = &settings.method else {
        panic!("{} is not NFAD", settings.method);
    };
    assert_eq!(config.schedule.batch, 4);
    let error = Settings::resolve_variant(None, &[], flags, &[over("method.schedule.batch=4")])
        .unwrap_err();
    assert!(error.to_string().contains("--variant 'x'"), "{error}");
}
