//! The transport without a product around it: what the examples run that the public protocol suites are pointed at.

use std::net::SocketAddr;
use std::sync::Arc;

use roundtable_core::error::Error;
use roundtable_core::ids::WorkspaceId;

use super::{Doors, Hub, Settings, Shards, Started, listen};
use crate::auth::{Directory, Identifier};
use crate::config::Config;
use crate::log::memory::MemoryLog;
use crate::runner::{Pace, Workspaces};
use crate::watch::Watch;

/// Serves one address until the process ends. Must be called within a runtime.
pub async fn serve(address: SocketAddr, doors: Arc<dyn Doors>, settings: Settings) -> Result<Started, Error> {
    let internal =
        |error: std::io::Error| Error::new(roundtable_core::error::ErrorKind::Internal, error.to_string());
    let prepared = Shards::prepare(settings.shards);
    let audience = Arc::new(prepared.shards());
    let default = WorkspaceId::new("default")?;
    let workspaces =
        Arc::new(Workspaces::new(Arc::new(MemoryLog::default()), audience, Pace::default(), default.clone()));
    tokio::spawn(workspaces.start(&default)?);
    let directory = Arc::clone(&workspaces) as Arc<dyn Directory>;
    let identity = Identifier::new(directory, &crate::clock::random_bytes(), &Config::default().auth)?;
    let (watch, news) = Watch::new(&Config::default().security, Arc::clone(&workspaces));
    tokio::spawn(crate::watch::tell(Arc::clone(&watch), news));
    let bound = listen::bind(address).map_err(internal)?;
    let hub = Arc::new(Hub {
        workers: super::workers::Workers::start(&settings).map_err(internal)?,
        workspaces,
        identity: Arc::new(identity),
        watch: Arc::clone(&watch),
        crowd: listen::Crowd::new(None),
        figures: Arc::default(),
        history: std::sync::Mutex::default(),
        connections: 0.into(),
        watched: super::Watched::default(),
        settings: crate::live::Live::new(settings),
        rates: arc_swap::ArcSwap::from_pointee(crate::rates::Rates::of(&Config::default())),
        config: Arc::default(),
        tls: Arc::default(),
        ports: vec![bound.address.port()],
    });
    let started = prepared.start(&hub, &doors).map_err(internal)?;
    let door = listen::Door {
        number: 0,
        anonymous: true,
        tls: None,
        watch_only: false,
        crowd: Arc::clone(&hub.crowd),
        watch,
        trusted: hub.settings.trusted_proxies.clone(),
        proxy_protocol: false,
    };
    bound.serve(started.shards.clone(), door);
    Ok(started)
}
