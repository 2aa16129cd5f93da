//! Which path and which namespace leads to which dialect.

use std::sync::Arc;

use roundtable_dialects::session::{Credentials, Family, Opening, Proof, Refusal, bearer, query_value};
use roundtable_dialects::{aiwm, hive, megabot, mxf, open_agi};
use serde::Deserialize;

use crate::auth::Identifier;
use crate::auth::secrets::Held;
use crate::config::dialects::Dialects;
use crate::config::{BareWs, Config};
use crate::live::Live;
use crate::transport::http::{From, Reach};
use crate::transport::{Doors, Entry, Farewell, Head, Hub, Listener, Settings, Way};
use crate::watch::Watch;

/// Query values that only MegaBot clients send (protocol of the bare `/ws` on listeners that serve both).
const MEGABOT_VALUES: [&str; 5] = ["token", "user_id", "platform", "session_id", "compression"];

/// The product's doors.
pub struct FrontDoors {
    identity: Arc<Identifier>,
    watch: Arc<Watch>,
    router: axum::Router,
    secrets: Held,
    /// What a bare `/ws` means, by the number of the listener.
    bare: Vec<BareWs>,
    now: Live<Now>,
}

/// What new sessions begin with.
struct Now {
    largest: usize,
    strangers: usize,
    ping_ms: u64,
    aiwm_ping_ms: u64,
    mxf: Arc<mxf::Settings>,
    aiwm: Arc<aiwm::Settings>,
    hive: Arc<hive::Settings>,
    open_agi: Arc<open_agi::Settings>,
    megabot: Arc<megabot::Settings>,
}

impl FrontDoors {
    /// Doors by the settings.
    pub fn new(config: &Config, hub: &Hub, router: axum::Router, secrets: Held) -> Self {
        Self {
            identity: Arc::clone(&hub.identity),
            watch: Arc::clone(&hub.watch),
            router,
            secrets,
            bare: config.server.listen.as_slice().iter().map(|listener| listener.bare_ws).collect(),
            now: Live::new(Now::of(config)),
        }
    }

    /// New sessions begin with other settings from now on.
    pub fn reload(&self, config: &Config) {
        self.now.replace(Now::of(config));
    }

    fn hive(&self) -> Entry {
        Entry {
            name: "hive",
            session: Box::new(hive::HiveSession::new(Arc::clone(&self.now.hive))),
            encode: hive::encode,
            farewell: Farewell::Restart,
            ping_ms: self.now.ping_ms,
        }
    }

    fn megabot(&self) -> Entry {
        Entry {
            name: "megabot",
            session: Box::new(megabot::MegaBotSession::new(Arc::clone(&self.now.megabot))),
            encode: megabot::encode,
            farewell: Farewell::Cut,
            ping_ms: self.now.ping_ms,
        }
    }

    fn open_agi(&self) -> Entry {
        Entry {
            name: "open-agi",
            session: Box::new(open_agi::OpenAgiSession::new(Arc::clone(&self.now.open_agi))),
            encode: open_agi::encode,
            farewell: Farewell::Restart,
            ping_ms: self.now.ping_ms,
        }
    }

    /// Who is blocked hears so before the upgrade (Open-A.G.I notes §1): REST answers under the same paths.
    fn unless_blocked(&self, from: &From) -> Way {
        if self.watch.refuses(from.spot()).is_some() { Way::Rest } else { Way::WebSocket(self.open_agi()) }
    }

    fn aiwm(&self) -> Entry {
        Entry {
            name: "aiwm",
            session: Box::new(aiwm::AiwmSession::new(Arc::clone(&self.now.aiwm))),
            encode: aiwm::encode,
            farewell: Farewell::Restart,
            ping_ms: self.now.aiwm_ping_ms,
        }
    }

    fn mxf(&self) -> Entry {
        Entry {
            name: "mxf",
            session: Box::new(mxf::MxfSession::new(Arc::clone(&self.now.mxf))),
            encode: mxf::encode,
            farewell: Farewell::Restart,
            ping_ms: self.now.ping_ms,
        }
    }

    fn bare_ws(&self, head: &Head, listener: &Listener) -> Entry {
        let means = self.bare.get(listener.number).copied().unwrap_or_default();
        let looks_like_megabot = || {
            head.authorization.is_some()
                || head.api_key.is_some()
                || MEGABOT_VALUES.iter().any(|name| query_value(&head.query, name).is_some())
        };
        match means {
            BareWs::Hive => self.hive(),
            BareWs::MegaBot => self.megabot(),
            BareWs::Auto if looks_like_megabot() => self.megabot(),
            BareWs::Auto | BareWs::Metrics => self.hive(),
        }
    }

    /// Namespace `/` belongs to MXF and AIWM; the credential says which (rules for telling dialects apart, in their order).
    fn main_namespace(&self, opening: &Opening<'_>) -> Entry {
        #[derive(Deserialize)]
        struct Auth {
            #[serde(default, rename = "domainKey")]
            domain_key: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            token: Option<serde_json::Value>,
        }
        let auth = opening.auth.and_then(|raw| serde_json::from_str::<Auth>(raw.get()).ok());
        if auth.as_ref().is_some_and(|auth| auth.domain_key.is_some()) {
            return self.mxf();
        }
        let in_auth = auth.and_then(|auth| auth.token).and_then(|t| t.as_str().map(str::to_owned));
        let from_header = || opening.authorization.map(|h| bearer(h).unwrap_or(h).to_owned());
        let Some(token) = in_auth.or_else(from_header).or_else(|| query_value(opening.query, "token")) else {
            return self.mxf();
        };
        let of_aiwm = Proof::Token(Family::Aiwm, token.clone());
        let of_mxf = Proof::Token(Family::Mxf, token.clone());
        // A key has a colon in it and no token has, so a key need not be tried (and counted) here.
        if !self.made_for(of_aiwm, opening) && (token.contains(':') || self.made_for(of_mxf, opening)) {
            return self.mxf();
        }
        self.aiwm()
    }

    /// Whether the token of a request opens AIWM's plain WebSocket. Tokens are checked at once and count no failures, so the
    /// client's address is not asked for.
    fn opens_aiwm(&self, head: &Head) -> bool {
        let token = aiwm::rest::token_of(head.authorization.as_deref(), &head.query).unwrap_or_default();
        let credentials = Credentials { domain_key: None, proof: Proof::Token(Family::Aiwm, token) };
        let nowhere = std::net::IpAddr::from([0, 0, 0, 0]);
        matches!(self.identity.try_identify_now(&credentials, nowhere), Some(Ok(_)))
    }

    /// Whether a token is of a family at all; it may be expired or revoked, which its dialect then says.
    fn made_for(&self, proof: Proof, opening: &Opening<'_>) -> bool {
        let answer = self.identity.try_identify_now(&Credentials { domain_key: None, proof }, opening.peer);
        !matches!(answer, None | Some(Err(Refusal::Invalid | Refusal::Elsewhere | Refusal::Missing)))
    }
}

/// Where somebody logs in: what is sent there are a few names and secrets, from whoever comes.
fn logs_in(path: &str) -> bool {
    aiwm::rest::logs_in(path)
        || open_agi::rest::logs_in(path)
        || mxf::rest::logs_in(path)
        || megabot::rest::logs_in(path)
}

impl FrontDoors {
    /// Whether the head of a request shows a credential that is good for something here, or needs none. Which request it is
    /// good for is its handler's to say: this only tells who may have more read than a stranger.
    fn has_proof(&self, head: &Head, from: &From) -> bool {
        let good = |proof| {
            let credentials = Credentials { domain_key: None, proof };
            matches!(self.identity.try_identify_now(&credentials, from.peer), Some(Ok(_)))
        };
        let in_query = |name| query_value(&head.query, name).filter(|text| !text.is_empty());
        let header = head.authorization.as_deref().map(|header| bearer(header).unwrap_or(header).to_owned());
        let mut texts = [header, head.api_key.clone(), in_query("token"), in_query("api_key")];
        let mut shown = texts.iter_mut().filter_map(Option::take).peekable();
        if shown.peek().is_none() && head.channel_key.is_none() {
            return from.guest;
        }
        let channel_key = head.channel_key.clone();
        channel_key.is_some_and(|(key_id, secret)| good(Proof::ChannelKey { key_id, secret }))
            || shown.any(|text| match text.contains(':') {
                // As one of these, keys of either kind are tried, and counted once.
                true => good(Proof::Bearer(Family::Mxf, text)),
                false => self.secrets.is_admin(&text) || self.identity.read_any(&text).is_some(),
            })
    }
}

impl Now {
    fn of(config: &Config) -> Self {
        let (dialects, settings) = (Dialects::of(config), Settings::of(config));
        Self {
            largest: settings.max_body,
            strangers: settings.stranger_body,
            ping_ms: config.websocket.ping_interval.ms(),
            aiwm_ping_ms: config.aiwm.ping_interval.ms(),
            mxf: Arc::new(dialects.mxf),
            aiwm: Arc::new(dialects.aiwm),
            hive: Arc::new(dialects.hive),
            open_agi: Arc::new(dialects.open_agi),
            megabot: Arc::new(dialects.megabot),
        }
    }
}

impl Doors for FrontDoors {
    fn way(&self, head: &Head, upgrade: bool, from: &From) -> Way {
        if from.listener.watch_only {
            return if matches!(head.path.as_str(), "/livez" | "/readyz") { Way::AtOnce } else { Way::Rest };
        }
        match head.path.trim_end_matches('/') {
            "/socket.io" | "/dev/aiwm/chat/socket.io" | "/dev/aiwm/ws/socket.io" => Way::SocketIo,
            "/ws" => Way::WebSocket(self.bare_ws(head, &from.listener)),
            "/hive/ws" => Way::WebSocket(self.hive()),
            "/megabot/ws" => Way::WebSocket(self.megabot()),
            "/api/v1/ws" | "/openagi/ws" | "/openagi/api/v1/ws" => self.unless_blocked(from),
            "/api/v1/monitoring/stream" | "/openagi/api/v1/monitoring/stream" if upgrade => {
                self.unless_blocked(from)
            }
            // A bad token is an HTTP answer, given by REST under the same path, and not a connection that ends at once.
            "/dev/aiwm/chat" if upgrade && !self.opens_aiwm(head) => Way::Rest,
            "/dev/aiwm/chat" => Way::WebSocket(self.aiwm()),
            "/livez" | "/readyz" => Way::AtOnce,
            _ => Way::Rest,
        }
    }

    fn reach(&self, head: &Head, from: &From) -> Reach {
        let proven = !logs_in(&head.path) && self.has_proof(head, from);
        Reach { limit: if proven { self.now.largest } else { self.now.strangers }, proven }
    }

    fn namespace(&self, opening: &Opening<'_>) -> Option<Entry> {
        match opening.namespace {
            "/" => Some(self.main_namespace(opening)),
            "/dev/aiwm/chat" | "/chat" | "/ws" | "/ws/chat" => Some(self.aiwm()),
            _ => None,
        }
    }

    fn router(&self) -> axum::Router {
        self.router.clone()
    }
}
