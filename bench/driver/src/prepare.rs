//! Builds what is measured: the Rust programs here, the Node and Bun packages from npm, uWebSockets from its sources.
use crate::child;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where everything is that can be started. A peer that cannot be had here is left out, with the reason printed.
pub struct Tools {
    pub roundtable: Option<PathBuf>,
    /// Folder with the built programs of this workspace.
    pub built: PathBuf,
    /// Folder with the Node programs, if Node is there.
    pub node: Option<PathBuf>,
    pub bun: Option<PathBuf>,
    pub uwebsockets: Option<PathBuf>,
    pub taskset: bool,
    /// Folder for databases.
    pub dir: PathBuf,
}

const LONG: Duration = Duration::from_secs(1800);

/// Where a package of crates.io holds the sources of uWebSockets.
const UWEBSOCKETS: &str = "libuwebsockets-sys";

pub fn tools(roundtable: Option<PathBuf>, dir: &Path) -> Result<Tools, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = workspace.canonicalize().map_err(|e| format!("{}: {e}", workspace.display()))?;
    let own = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
    let built = own.parent().ok_or("own path has no folder")?.to_path_buf();
    build(&workspace, &built)?;
    let node = told("Node peers", node(&workspace));
    let bun = node.as_ref().and_then(|n| told("Bun", bun(n)));
    let roundtable = match roundtable {
        Some(path) => Some(path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?),
        None => None,
    };
    Ok(Tools {
        roundtable,
        uwebsockets: told("uWebSockets", uwebsockets(&workspace, &built)),
        built,
        node,
        bun,
        taskset: Command::new("taskset").arg("--version").output().is_ok_and(|o| o.status.success()),
        dir: dir.to_path_buf(),
    })
}

fn told<T>(what: &str, found: Result<T, String>) -> Option<T> {
    found.inspect_err(|e| eprintln!("without {what}: {e}")).ok()
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn build(workspace: &Path, built: &Path) -> Result<(), String> {
    eprintln!("building the generator and the Rust peers");
    let mut c = cargo();
    c.args(["build", "--release", "--locked", "--bins", "--workspace", "--exclude", "bench-driver"]);
    // The driver was built into TARGET/release; the others belong beside it.
    c.arg("--target-dir").arg(built.parent().unwrap_or(built)).current_dir(workspace);
    child::output("cargo build", c, LONG).map(|_| ())
}

fn node(workspace: &Path) -> Result<PathBuf, String> {
    let folder = workspace.join("node");
    let modified = |p: PathBuf| p.metadata().and_then(|m| m.modified());
    let (lock, installed) = (
        modified(folder.join("package-lock.json")),
        modified(folder.join("node_modules/.package-lock.json")),
    );
    if !matches!((lock, installed), (Ok(lock), Ok(installed)) if installed >= lock) {
        eprintln!("installing the Node peers");
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder);
        child::output("npm ci", npm, LONG)?;
    }
    let mut version = Command::new("node");
    version.arg("--version");
    child::output("node", version, LONG)?;
    Ok(folder)
}

/// Bun's npm package would fetch its program by a script; the program lies in the package of the platform.
fn bun(node: &Path) -> Result<PathBuf, String> {
    let packages = node.join("node_modules/@oven");
    let entries = packages.read_dir().map_err(|e| format!("{}: {e}", packages.display()))?;
    let found = entries.flatten().map(|e| e.path().join("bin/bun")).find(|p| {
        let mut c = Command::new(p);
        c.arg("--version");
        child::output("bun", c, LONG).is_ok()
    });
    found.ok_or_else(|| "no program for this platform".into())
}

fn uwebsockets(workspace: &Path, built: &Path) -> Result<PathBuf, String> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked"]);
    metadata.args(["--features", "bench-peers/uwebsockets-sources"]).current_dir(workspace);
    let metadata: Value = serde_json::from_str(&child::output("cargo metadata", metadata, LONG)?)
        .map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let manifest =
        packages.iter().find(|p| p["name"] == UWEBSOCKETS).and_then(|p| p["manifest_path"].as_str());
    let sources = Path::new(manifest.ok_or("no package with the sources")?).with_file_name("uWebSockets");
    let program = built.join("uwebsockets_room");
    let room = workspace.join("uws/room.cpp");
    let age = |p: &Path| p.metadata().and_then(|m| m.modified());
    if matches!((age(&program), age(&room)), (Ok(p), Ok(r)) if p >= r) {
        return Ok(program);
    }
    eprintln!("compiling uWebSockets");
    compile_uwebsockets(&sources, &room, &program)?;
    Ok(program)
}

fn compile_uwebsockets(sources: &Path, room: &Path, program: &Path) -> Result<(), String> {
    let sockets = sources.join("uSockets/src");
    let objects = tempfile::tempdir().map_err(|e| format!("temporary folder: {e}"))?;
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-O3", "-DLIBUS_NO_SSL", "-I"]).arg(&sockets).arg("-c");
    for name in ["bsd", "context", "loop", "socket", "udp", "eventing/epoll_kqueue"] {
        cc.arg(sockets.join(format!("{name}.c")));
    }
    cc.current_dir(objects.path());
    child::output("cc", cc, LONG)?;
    let mut cxx = Command::new("c++");
    cxx.args(["-std=c++20", "-O3", "-DLIBUS_NO_SSL", "-DUWS_NO_ZLIB", "-I"]).arg(sources.join("src"));
    cxx.arg("-I").arg(&sockets).arg(room);
    for name in ["bsd", "context", "loop", "socket", "udp", "epoll_kqueue"] {
        cxx.arg(objects.path().join(format!("{name}.o")));
    }
    cxx.arg("-o").arg(program);
    child::output("c++", cxx, LONG).map(|_| ())
}
