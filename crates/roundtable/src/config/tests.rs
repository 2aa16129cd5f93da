//! Tests of the settings: forms, precedence, all problems at once, the example file.

use std::path::Path;

use super::{BareWs, Config, Listener, Rate, Sources, Span, example::example};

fn with(set: &[&str]) -> Result<Config, Vec<String>> {
    let set = set.iter().map(|s| (*s).to_owned()).collect();
    Config::load(&Sources { set, ..Sources::default() }).map_err(|problems| problems.0)
}

fn file(text: &str) -> Result<Config, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.toml");
    std::fs::write(&path, text).unwrap();
    let shown = format!("{}: ", path.display());
    let sources = Sources { file: Some(path), ..Sources::default() };
    Config::load(&sources).map_err(|p| p.0.iter().map(|line| line.replace(&shown, "")).collect())
}

#[test]
fn times_are_read_with_units_and_have_a_least() {
    let ms = |text: &str| {
        with(&[&format!("socketio.ping_interval={text}")]).map(|c| c.socketio.ping_interval.ms())
    };
    assert_eq!(ms("200ms"), Ok(200));
    assert_eq!(ms("1500"), Ok(1500));
    assert_eq!(ms("5s"), Ok(5_000));
    assert_eq!(ms("15m"), Ok(900_000));
    assert_eq!(ms("24h"), Ok(86_400_000));
    assert_eq!(ms("7d"), Ok(604_800_000));
    for (text, what) in
        [("199ms", "at least 200ms"), ("0", "at least"), ("9999d", "at most"), ("soon", "a time")]
    {
        let problems = ms(text).unwrap_err();
        assert!(
            problems[0].starts_with("--set: socketio.ping_interval: ") && problems[0].contains(what),
            "{problems:?}"
        );
    }
    assert!(ms("99999999999999999999d").is_err(), "a number beyond all bounds is an error, not a wrap");
    assert_eq!(Span::of_ms(90_000).to_string(), "90s");
    assert_eq!(Span::of_ms(86_400_000).to_string(), "1d");
    assert_eq!(Span::of_ms(1_001).seconds(), 2);
}

#[test]
fn rates_can_be_off_but_not_zero() {
    let rate =
        |text: &str| with(&[&format!("mxf.messages_per_minute={text}")]).map(|c| c.mxf.messages_per_minute);
    assert_eq!(rate("off"), Ok(Rate::OFF));
    assert_eq!(rate("3"), Ok(Rate::of(3)));
    for wrong in ["0", "-1", "many", "1.5"] {
        assert!(rate(wrong).unwrap_err()[0].contains("from 1 on, or off"), "{wrong}");
    }
    assert!(with(&["socketio.ping_interval=off"]).is_err(), "a time is no rate");
}

#[test]
fn sizes_percentages_switches_and_lists_are_read_from_text() {
    let config = with(&[
        "limits.queue=2MiB",
        "websocket.compress_from=4096",
        "websocket.compression=false",
        "alerts.cpu_warning=70.5",
        "alerts.cpu_critical=71",
        "server.allowed_origins=https://a.example, http://localhost:8000",
        "logging.format=json",
        "logging.level=warn,roundtable=debug",
        "server.node=alpha",
    ])
    .unwrap();
    assert_eq!(config.limits.queue.bytes(), 2 << 20);
    assert_eq!(config.websocket.compress_from.bytes(), 4096);
    assert!(!config.websocket.compression);
    assert_eq!(config.alerts.cpu_warning.get(), 70.5);
    assert!(config.server.allowed_origins.contains("HTTPS://A.example"));
    assert!(!config.server.allowed_origins.contains("https://b.example"));
    assert_eq!(config.server.node.get(), Some("alpha"));
    assert!(with(&["server.allowed_origins=[\"*\"]"]).unwrap().server.allowed_origins.contains("x://y"));
}

#[test]
fn the_later_source_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.toml");
    std::fs::write(
        &path,
        "[hive]\nstatus_interval = \"1s\"\nlists_interval = 700\n[mxf]\nmessages_per_minute = \"off\"\n",
    )
    .unwrap();
    let sources = Sources {
        file: Some(path),
        environment: vec![
            ("ROUNDTABLE_HIVE_STATUS_INTERVAL".into(), "2s".into()),
            ("ROUNDTABLE_HIVE_LISTS_INTERVAL".into(), "800ms".into()),
            ("ROUNDTABLE_SERVICE_HOST".into(), "10.0.0.1".into()),
            ("ROUNDTABLE_PORT".into(), "tcp://10.0.0.1:80".into()),
            ("PATH".into(), "/bin".into()),
        ],
        set: vec!["hive.status_interval=3s".into()],
        data: Some("/var/lib/r".into()),
        ..Sources::default()
    };
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.hive.status_interval.ms(), 3_000);
    assert_eq!(config.hive.lists_interval.ms(), 800);
    assert_eq!(config.mxf.messages_per_minute, Rate::OFF);
    assert_eq!(config.storage.dir, Path::new("/var/lib/r"));
}

#[test]
fn all_problems_are_told_at_once_with_their_place() {
    let sources = Sources {
        environment: vec![
            ("ROUNDTABLE_AUTH_FAILURES".into(), "none".into()),
            ("ROUNDTABLE_AUTH_FOO".into(), "1".into()),
        ],
        set: vec!["nonsense".into(), "mxf.colour=red".into(), "storage.relaxed_sync=1ms".into()],
        listen: vec!["127.0.0.1:3001=tea".into(), "nowhere".into()],
        ..Sources::default()
    };
    let problems = Config::load(&sources).unwrap_err().0;
    let begins = [
        "ROUNDTABLE_AUTH_FAILURES: auth.failures: ",
        "ROUNDTABLE_AUTH_FOO: there is no setting auth.foo",
        "--set nonsense: must be section.key=value",
        "--set: there is no setting mxf.colour",
        "--set: storage.relaxed_sync: must be at least 200ms",
        "--listen 127.0.0.1:3001=tea: `tea` is not",
        "--listen nowhere: `nowhere` is no address",
    ];
    assert_eq!(problems.len(), begins.len(), "{problems:#?}");
    for (problem, begin) in problems.iter().zip(begins) {
        assert!(problem.starts_with(begin), "{problem} / {begin}");
    }
}

#[test]
fn one_call_names_bad_keys_bad_entries_contradictions_and_missing_files() {
    let problems = file(
        "[server]\nshards = 1000\nlisten = [\"127.0.0.1:1=foo\", \"127.0.0.1:2\", \"nowhere\", \
         { address = \"127.0.0.1:3\", tls = { certificate = \"/nowhere/c.pem\", key = \"/nowhere/k.pem\" } }]\n\
         allowed_origins = [\"a.example\", \"b.example\"]\n\
         [alerts]\ncpu_warning = 95\ndisk_warning = 99\ndisk_critical = \"much\"\n\
         [mxf]\nnope = 1\n[aiwm]\nreplay = 5000\n[logging]\nlevel = \"loud\"\n",
    )
    .unwrap_err();
    for part in [
        "server.listen: entry 1: `foo` is not",
        "server.listen: entry 3: `nowhere` is no address",
        "there is no setting mxf.nope",
        "alerts.disk_critical: must be a number",
        "alerts.cpu_warning (95) lies above alerts.cpu_critical (90)",
        "server.shards must be at most 256",
        "aiwm.replay must be at most 200",
        "logging.level: must be",
        "/nowhere/c.pem: ",
        "/nowhere/k.pem: ",
        "`a.example` is no origin, `b.example` is no origin",
    ] {
        assert_eq!(
            problems.iter().filter(|problem| problem.contains(part)).count(),
            1,
            "{part}: {problems:#?}"
        );
    }
    assert_eq!(
        problems.len(),
        11,
        "a default that stands in for a bad value contradicts nothing: {problems:#?}"
    );
}

#[test]
fn a_misspelt_level_is_no_filter() {
    let level = |text: &str| with(&[&format!("logging.level={text}")]).map(drop);
    for good in ["off", "WARN", "info,roundtable::log=debug", "warn,hyper=off", "info,[span{field}]=debug"] {
        assert_eq!(level(good), Ok(()), "{good}");
    }
    for bad in ["loud", "info,loud", "roundtable", "info,roundtable=loud"] {
        assert!(level(bad).unwrap_err()[0].contains("logging.level"), "{bad}");
    }
}

#[test]
fn a_file_with_faults_names_them() {
    assert!(file("[socketio]\nping_interval = true\n").unwrap_err()[0].contains("socketio.ping_interval"));
    assert_eq!(file("[tea]\n").unwrap_err(), ["there is no section [tea]"]);
    assert_eq!(file("[server]\ntea = 1\n").unwrap_err(), ["there is no setting server.tea"]);
    assert!(!file("[server\n").unwrap_err().is_empty());
    let missing = Sources { file: Some("/nowhere/r.toml".into()), ..Sources::default() };
    assert!(Config::load(&missing).unwrap_err().0[0].contains("cannot be read"));
}

#[test]
fn listeners_have_three_forms() {
    let listeners = |config: Config| config.server.listen.as_slice().to_vec();
    let given = Sources {
        listen: vec!["0.0.0.0:0=megabot".into(), "localhost:1/no-guests".into()],
        ..Sources::default()
    };
    let from_arguments = listeners(Config::load(&given).unwrap());
    assert_eq!(from_arguments.len(), 2, "--listen replaces the list");
    assert_eq!(from_arguments[0].bare_ws, BareWs::MegaBot);
    assert!(!from_arguments[1].anonymous);
    let text = "[server]\nlisten = [\"[::1]:5=hive\", { address = \"127.0.0.1:6\", bare_ws = \"megabot\", anonymous = false }]\n";
    let from_file = listeners(file(text).unwrap());
    assert_eq!(from_file[0], "[::1]:5=hive".parse().unwrap());
    assert_eq!(from_file[1], "127.0.0.1:6=megabot/no-guests".parse().unwrap());
    let from_text = listeners(with(&["server.listen=127.0.0.1:7=hive,127.0.0.1:8"]).unwrap());
    assert_eq!(from_text[1].bare_ws, BareWs::Auto);
    assert!(file("[server]\nlisten = [3001]\n").is_err());
    assert!(file("[server]\nlisten = []\n").unwrap_err()[0].contains("names no listener"));
    assert!(with(&["server.listen=127.0.0.1:7,127.0.0.1:7"]).unwrap_err()[0].contains("twice"));
    assert!(with(&["server.listen=127.0.0.1:0,127.0.0.1:0"]).is_ok(), "port 0 may be asked for twice");
}

#[test]
fn guests_come_in_on_loopback_only() {
    let guests = |text: &str, everywhere| text.parse::<Listener>().unwrap().lets_guests_in(everywhere);
    assert!(guests("127.0.0.1:1", true));
    assert!(guests("127.9.0.1:1", true));
    assert!(guests("[::1]:1", true));
    assert!(guests("[::ffff:127.0.0.1]:1", true));
    assert!(!guests("127.0.0.1:1", false));
    assert!(!guests("127.0.0.1:1/no-guests", true));
    assert!(!guests("0.0.0.0:1", true));
    assert!(!guests("192.168.0.1:1", true));
}

#[test]
fn proxies_are_addresses_and_networks_and_the_proxy_protocol_needs_some() {
    let proxies = |text: &str| with(&[text]).map(|config| config.server.trusted_proxies);
    let trusted = proxies("server.trusted_proxies=127.0.0.1, 10.0.0.0/8, fd00::/8").unwrap();
    for (address, known) in [
        ("127.0.0.1", true),
        ("::ffff:10.1.2.3", true),
        ("fd12::1", true),
        ("127.0.0.2", false),
        ("11.0.0.1", false),
        ("::1", false),
    ] {
        assert_eq!(trusted.contains(address.parse().unwrap()), known, "{address}");
    }
    assert!(proxies("server.trusted_proxies=[]").unwrap().is_empty());
    let problems = proxies("server.trusted_proxies=10.0.0.0/33, proxy, 10.0.0.1").unwrap_err();
    assert!(problems[0].contains("`10.0.0.0/33` is no address and no network, `proxy` is"), "{problems:?}");
    let listen = r#"server.listen=[{address="127.0.0.1:1", bare_ws="hive", proxy_protocol=true}]"#;
    let problems = with(&[listen]).unwrap_err();
    assert!(problems[0].contains("127.0.0.1:1 takes the PROXY protocol"), "{problems:?}");
    let config = with(&[listen, "server.trusted_proxies=127.0.0.1"]).unwrap();
    let written = toml::to_string(&config).unwrap();
    assert_eq!(file(&written).unwrap(), config, "{written}");
}

#[test]
fn settings_that_contradict_one_another_are_refused() {
    let wrong = |set: &[&str], what: &str| {
        let problems = with(set).unwrap_err();
        assert!(problems[0].contains(what), "{problems:?}");
    };
    wrong(&["alerts.cpu_warning=95"], "alerts.cpu_warning (95) lies above alerts.cpu_critical (90)");
    wrong(&["limits.queue=1KiB"], "64KiB");
    wrong(&["server.shards=300"], "256");
    wrong(&["server.max_body=1"], "server.max_body");
    wrong(&["auth.password_checks=65"], "64");
    wrong(&["aiwm.replay=201"], "200");
    wrong(&["hive.memory_warning=96"], "hive.memory_warning (96) lies above alerts.memory_critical (95)");
    wrong(&["server.allowed_origins=example.org"], "is no origin");
    wrong(&["server.node=a b"], "server.node");
    wrong(&["megabot.agent=a b"], "megabot.agent");
    wrong(&["logging.level=loud=very=loud"], "logging.level");
}

#[test]
fn the_example_file_is_what_the_settings_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../roundtable.example.toml");
    if std::env::var_os("UPDATE_EXAMPLE").is_some() {
        std::fs::write(&path, example()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, example(), "run the tests once with UPDATE_EXAMPLE=1");
}

#[test]
fn the_example_with_every_key_in_force_gives_the_defaults() {
    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    let active: String =
        example().lines().map(|line| format!("{}\n", if is_key(line) { &line[1..] } else { line })).collect();
    assert_eq!(file(&active).unwrap(), Config::default());
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_told_and_what_others_set_is_left_alone() {
    let with = |name: &str| {
        let environment = vec![(name.to_owned(), "1".to_owned())];
        Config::load(&Sources { environment, ..Sources::default() }).map_err(|problems| problems.0)
    };
    for (name, meant) in [
        ("ROUNDTABLE_SOCKTIO_PING_INTERVAL", "socketio"),
        ("ROUNDTABLE_WEBSOCKETS_MAX", "websocket"),
        ("ROUNDTABLE_SEVRER_NODE", "server"),
        ("ROUNDTABLE_LIMIT_QUEUE", "limits"),
        ("ROUNDTABLE_WS_MAX_MESSAGE", "websocket"),
    ] {
        let problems = with(name).unwrap_err();
        assert!(problems[0].starts_with(name) && problems[0].contains(&format!("`{meant}`")), "{problems:?}");
    }
    for name in [
        "ROUNDTABLE_PORT",
        "ROUNDTABLE_SERVICE_HOST",
        "ROUNDTABLE_SERVICE_PORT_HTTP",
        "ROUNDTABLE_PORT_3001_TCP_ADDR",
        "ROUNDTABLE_DATA",
        "ROUNDTABLE_TEST_DIR",
    ] {
        assert!(with(name).is_ok(), "{name}");
    }
}
