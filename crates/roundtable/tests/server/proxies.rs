//! Clients behind proxies: whose word counts, and the samples of `docs/proxies.md` beside the server.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::rig::{Client, House};

const PAGE: &str = include_str!("../../../../docs/proxies.md");
const TRUSTING: &str = "server.trusted_proxies=127.0.0.1";

/// A connection from one of this machine's own addresses.
async fn from(client: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(client.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// One request over a connection; status and body.
async fn ask(mut socket: TcpStream, what: &str, lines: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head =
        format!("{what} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{lines}\r\n{body}");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A proxy may cut what it has answered.
    let _ = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status =
        answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn login(password: &str) -> String {
    json!({"username": "admin", "password": password}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_trusted_proxy_names_is_the_client() {
    let house = House::open(&[TRUSTING]).await;
    let guess = login("guess");
    for _ in 0..6 {
        let (status, ..) =
            house.with_head(0, "POST /api/auth/login", "X-Forwarded-For: 192.0.2.7\r\n", &guess).await;
        assert_eq!(status, 401);
    }
    let right = login(&house.first.admin.password);
    for (lines, status) in [
        ("X-Forwarded-For: 192.0.2.7\r\n", 429),
        ("X-Forwarded-For: 192.0.2.8, 192.0.2.7\r\n", 429),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 192.0.2.8\r\n", 200),
        ("Forwarded: for=192.0.2.9;proto=https\r\n", 200),
        ("Forwarded: for=192.0.2.9\r\nX-Forwarded-For: 192.0.2.7\r\n", 400),
        ("", 200),
    ] {
        let (seen, _, body) = house.with_head(0, "POST /api/auth/login", lines, &right).await;
        assert_eq!(seen, status, "{lines}: {body}");
    }
    let (_, listed) = house.admin("GET /admin/v1/blocks", Value::Null).await;
    assert_eq!(listed["blocks"][0]["address"], "192.0.2.7");
    // Guests are on this machine, and a trail that breaks off does not lead there.
    for (lines, status) in [
        ("", 200),
        ("X-Forwarded-For: 127.0.0.2\r\n", 200),
        ("X-Forwarded-For: 192.0.2.8\r\n", 401),
        ("X-Forwarded-For: unknown\r\n", 401),
        ("Forwarded: for=\"\r\n", 401),
    ] {
        assert_eq!(house.with_head(0, "GET /api/agents", lines, "").await.0, status, "{lines}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_not_believed() {
    let house = House::open(&["server.trusted_proxies=10.0.0.0/8"]).await;
    for n in 0..6 {
        let lines = format!("X-Forwarded-For: 192.0.2.{n}\r\nForwarded: for=192.0.2.9\r\n");
        house.with_head(0, "POST /api/auth/login", &lines, &login("guess")).await;
    }
    let (_, listed) = house.admin("GET /admin/v1/blocks", Value::Null).await;
    assert_eq!(listed["blocks"][0]["address"], "127.0.0.1");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_behind_one_proxy_are_counted_one_by_one() {
    let house = House::open(&[TRUSTING, "server.connections_per_address=2", "security.connections=8"]).await;
    let come = async |client: &str| {
        let lines = format!("X-Forwarded-For: {client}\r\n");
        house.with_head(0, "GET /socket.io/?EIO=4&transport=polling", &lines, "").await.0
    };
    assert_eq!([come("192.0.2.7").await, come("192.0.2.7").await], [200, 200]);
    assert_eq!(come("192.0.2.7").await, 429, "a polling session holds its place");
    assert_eq!(come("192.0.2.8").await, 200);
    let (_, listed) = house.admin("GET /admin/v1/connections", Value::Null).await;
    let peers: Vec<&Value> =
        listed["connections"].as_array().unwrap().iter().map(|connection| &connection["peer"]).collect();
    assert_eq!(peers, ["192.0.2.7", "192.0.2.7", "192.0.2.8"]);
    house.close().await;
}

/// A server whose first listener takes the PROXY protocol.
async fn introduced() -> House {
    let listen = r#"server.listen=[{address="127.0.0.1:0", bare_ws="hive", proxy_protocol=true}, "127.0.0.1:0=megabot"]"#;
    House::open_in(tempfile::tempdir().unwrap(), &[TRUSTING, listen], &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_says_who_comes() {
    let house = introduced().await;
    let to = house.address(0);
    for (header, status) in [
        (&b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n"[..], 401),
        (b"PROXY TCP4 127.0.0.3 127.0.0.1 56324 443\r\n", 200),
        (b"PROXY UNKNOWN\r\n", 401),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\xdc\x04\x01\xbb", 401),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x03\xc0\x00\x02\x01\xdc\x04\x01\xbb", 200),
    ] {
        let mut socket = TcpStream::connect(to).await.unwrap();
        let (first, rest) = header.split_at(header.len() / 2);
        socket.write_all(first).await.unwrap();
        socket.flush().await.unwrap();
        socket.write_all(rest).await.unwrap();
        assert_eq!(ask(socket, "GET /api/agents", "Host: localhost\r\n", "").await.0, status, "{header:?}");
    }
    // Without a header, or from elsewhere, nobody comes in.
    for client in ["127.0.0.1", "127.0.0.9"] {
        let mut socket = from(client, to).await;
        socket.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.is_empty(), "{client}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_pages_are_refused_with_a_reason_before_they_count() {
    let house = House::open(&[]).await;
    for (lines, header) in [
        ("Host: evil.example\r\n", "Host"),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", "Origin"),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site"),
    ] {
        for what in [
            "GET /api/agents?token=guess",
            "GET /socket.io/?EIO=4&transport=polling",
            "GET /dev/aiwm/chat?token=x",
        ] {
            let (status, _, body) = house.with_head(0, what, lines, "").await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &body["header"], &body["code"]),
                (403, &json!(header), &json!(4)),
                "{what} {lines}"
            );
            assert_eq!(body["setting"], "server.allowed_origins");
            assert!(body["reason"].as_str().unwrap().contains(header));
        }
    }
    assert_eq!(house.server.hub.watch.failures(), 0);
    assert_eq!(house.with_head(0, "GET /api/agents", "Host: localhost\r\n", "").await.0, 200);
    house.close().await;
}

/// A proxy that runs beside the server, on a port of its own.
struct Proxy {
    process: Child,
    _folder: tempfile::TempDir,
    at: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where a program is, or a line that says why its test does nothing.
fn installed(program: &str) -> Option<String> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let found =
        places.iter().map(|folder| format!("{folder}/{program}")).find(|path| std::fs::exists(path).unwrap());
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "skipped: {program} is not installed here");
    }
    found
}

/// The samples of a proxy, in the order of the page.
fn samples(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    PAGE.split(&fence).skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a proxy on a file of settings and waits until it can be reached.
async fn start(program: &str, arguments: &[&str], settings: &str, port: u16) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings");
    let settings = settings.replace("FOLDER", folder.path().to_str().unwrap());
    std::fs::File::create(&path).unwrap().write_all(settings.as_bytes()).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg(&path).env("HOME", folder.path()).stdin(Stdio::null());
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let at = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
    let mut proxy = Proxy { process, _folder: folder, at };
    for _ in 0..200 {
        if TcpStream::connect(at).await.is_ok() {
            return proxy;
        }
        assert!(proxy.process.try_wait().unwrap().is_none(), "{program} does not take:\n{settings}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{program} does not listen");
}

/// What has to work behind every proxy, under a prefix too.
async fn everything_works(house: &House, proxy: &Proxy, prefixes: &[&str]) {
    let host = format!("Host: {}\r\n", proxy.at);
    for prefix in prefixes {
        let socket = from("127.0.0.2", proxy.at).await;
        assert_eq!(ask(socket, &format!("GET {prefix}/livez"), &host, "").await.0, 200, "{prefix}");
        // A page of the proxy's own origin, by polling and by WebSocket.
        let page = format!("{host}Origin: http://{}\r\n", proxy.at);
        let socket = from("127.0.0.2", proxy.at).await;
        let what = format!("GET {prefix}/socket.io/?EIO=4&transport=polling");
        let (status, body) = ask(socket, &what, &page, "").await;
        assert_eq!(status, 200, "{body}");
        let (status, body) = ask(
            from("127.0.0.2", proxy.at).await,
            "GET /api/agents",
            &format!("{host}Origin: http://evil.example\r\n"),
            "",
        )
        .await;
        assert_eq!(status, 403, "{body}");
        let stream = from("127.0.0.4", proxy.at).await;
        let mut hive = Client::over(stream, proxy.at, &format!("{prefix}/hive/ws")).await.unwrap();
        assert_eq!(hive.next().await["type"], "hive_status_update");
        hive.send(&json!({"action": "ping", "sequenceId": 7})).await;
        assert_eq!(hive.event("pong").await["timestamp"].as_str().map(str::len), Some(24));
        let token = &house.first.admin_token;
        let (_, listed) = house.http(1, "GET /admin/v1/connections", token, &Value::Null).await;
        assert!(listed.to_string().contains(r#""peer":"127.0.0.4""#), "{listed}");
        hive.bye().await;
    }
    // A client that says to be another is itself, and six wrong passwords of one are nothing to the other.
    let forged = format!("{host}X-Forwarded-For: 127.0.0.3\r\nForwarded: for=127.0.0.3\r\n");
    for _ in 0..6 {
        let socket = from("127.0.0.2", proxy.at).await;
        assert_eq!(ask(socket, "POST /api/auth/login", &forged, &login("guess")).await.0, 401);
    }
    let right = login(&house.first.admin.password);
    let by = async |client| ask(from(client, proxy.at).await, "POST /api/auth/login", &host, &right).await.0;
    assert_eq!((by("127.0.0.2").await, by("127.0.0.3").await), (429, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_for_nginx_works() {
    let Some(nginx) = installed("nginx") else { return };
    let house = House::open(&[TRUSTING]).await;
    let port = free_port();
    let sample = samples("nginx").concat();
    let sample = sample.replace("127.0.0.1:3001", &house.address(0).to_string());
    let sample = sample.replace("listen 80;", &format!("listen 127.0.0.1:{port};"));
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = kinds.iter().map(|kind| format!("{kind}_temp_path FOLDER/{kind};\n")).collect();
    let settings = format!(
        "daemon off;\nmaster_process off;\npid FOLDER/pid;\nerror_log FOLDER/log;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}{sample}}}\n"
    );
    let proxy = start(&nginx, &["-e", "stderr", "-c"], &settings, port).await;
    everything_works(&house, &proxy, &["", "/rt"]).await;
    drop(proxy);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_for_haproxy_work() {
    let Some(haproxy) = installed("haproxy") else { return };
    let house = House::open(&[TRUSTING]).await;
    let port = free_port();
    let [by_request, by_connection] = <[String; 2]>::try_from(samples("haproxy")).unwrap();
    let settings = by_request.replace("127.0.0.1:3001", &house.address(0).to_string());
    let settings = settings.replace("bind :80", &format!("bind 127.0.0.1:{port}"));
    let proxy = start(&haproxy, &["-db", "-f"], &settings, port).await;
    everything_works(&house, &proxy, &["", "/rt"]).await;
    drop(proxy);
    house.close().await;
    for version in ["send-proxy-v2", "send-proxy"] {
        let house = introduced().await;
        let port = free_port();
        let settings = by_connection.replace("127.0.0.1:3443", &house.address(0).to_string());
        let settings = settings.replace("send-proxy-v2", version);
        let settings = settings.replace("bind :443", &format!("bind 127.0.0.1:{port}"));
        let proxy = start(&haproxy, &["-db", "-f"], &settings, port).await;
        everything_works(&house, &proxy, &[""]).await;
        drop(proxy);
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_for_caddy_works() {
    let Some(caddy) = installed("caddy") else { return };
    let house = House::open(&[TRUSTING]).await;
    let port = free_port();
    let sample = samples("caddy").concat();
    let sample = sample.replace("127.0.0.1:3001", &house.address(0).to_string());
    let sample = sample.replace("chat.example {", &format!("http://127.0.0.1:{port} {{\nbind 127.0.0.1"));
    let settings = format!("{{\nadmin off\nauto_https off\n}}\n{sample}");
    let proxy = start(&caddy, &["run", "--adapter", "caddyfile", "--config"], &settings, port).await;
    everything_works(&house, &proxy, &["", "/rt"]).await;
    drop(proxy);
    house.close().await;
}
