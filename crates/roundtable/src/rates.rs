//! How often one address may ask over REST, by the keys of the configuration.

use std::net::IpAddr;

use roundtable_core::time::Time;
use roundtable_dialects::rest::{Limited, network_of};
use roundtable_dialects::session::Dialect;

use crate::auth::failures::Failures;
use crate::clock;
use crate::config::{Config, Rate};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Challenges and answers of the nodes of one network in a minute: a handful of nodes that start together need two each.
const NODE_PROOFS: u32 = 60;

/// Windows that slide, one per limit; each remembers a bounded number of addresses.
#[derive(Debug)]
pub struct Rates {
    new_agents: Failures,
    status: Failures,
    openagi_minute: Failures,
    openagi_hour: Failures,
    node_proofs: Failures,
    messages_per_minute: Option<u32>,
}

impl Rates {
    /// By the settings.
    pub fn of(config: &Config) -> Self {
        Self {
            new_agents: Failures::new(config.hive.agents_per_minute, MINUTE_MS),
            status: Failures::new(config.hive.status_per_minute, MINUTE_MS),
            openagi_minute: Failures::new(config.openagi.requests_per_minute, MINUTE_MS),
            openagi_hour: Failures::new(config.openagi.requests_per_hour, HOUR_MS),
            node_proofs: Failures::new(Rate::of(NODE_PROOFS), MINUTE_MS),
            messages_per_minute: config.mxf.messages_per_minute.most(),
        }
    }

    /// Messages of one MXF agent, counted with those of its sockets.
    pub const fn messages_per_minute(&self) -> Option<u32> {
        self.messages_per_minute
    }

    /// The addresses that asked too often, which limit that was, and when it has room again.
    pub fn reached(&self) -> Vec<(IpAddr, &'static str, Time)> {
        let now = clock::steady();
        let of = |(name, window): (&'static str, &Failures)| {
            window
                .reached(now)
                .into_iter()
                .map(move |((address, _), until)| (address, name, clock::shown(until)))
        };
        self.all().into_iter().flat_map(|limit| of(limit).collect::<Vec<_>>()).collect()
    }

    /// Forgets what an address asked, as [`counted_address`](crate::auth::failures::counted_address) has it.
    pub fn forgive(&self, address: IpAddr) {
        self.all().into_iter().for_each(|(_, window)| window.forgive(address));
        self.node_proofs.forgive(network_of(address));
    }

    const fn all(&self) -> [(&'static str, &Failures); 5] {
        [
            ("hive.agents_per_minute", &self.new_agents),
            ("hive.status_per_minute", &self.status),
            ("openagi.requests_per_minute", &self.openagi_minute),
            ("openagi.requests_per_hour", &self.openagi_hour),
            ("proofs of a network's nodes", &self.node_proofs),
        ]
    }

    /// Counts one request. Fails with the milliseconds after which there may be another; that one did not count.
    pub fn spend(&self, what: Limited, peer: IpAddr) -> Result<(), u64> {
        let windows: &[&Failures] = match what {
            Limited::NewAgents | Limited::Status if peer.is_loopback() => &[],
            Limited::NewAgents => &[&self.new_agents],
            Limited::Status => &[&self.status],
            Limited::Requests(Dialect::OpenAgi) => &[&self.openagi_minute, &self.openagi_hour],
            Limited::Requests(_) => &[],
            Limited::NodeProofs => &[&self.node_proofs],
        };
        let peer = if what == Limited::NodeProofs { network_of(peer) } else { peer };
        let now = clock::steady();
        // What is never said to have succeeded counts.
        windows.iter().try_for_each(|window| window.begin(peer, "", now).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::Rates;
    use crate::config::{Config, Rate};
    use roundtable_dialects::rest::Limited;
    use roundtable_dialects::session::Dialect;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn each_limit_counts_for_itself_and_per_address() {
        let mut config = Config::default();
        config.hive.agents_per_minute = Rate::of(2);
        config.openagi.requests_per_hour = Rate::of(3);
        let rates = Rates::of(&config);
        let asked = |what, peer| (0..5).filter(|_| rates.spend(what, peer).is_ok()).count();
        assert_eq!(asked(Limited::NewAgents, AWAY), 2);
        assert_eq!(asked(Limited::NewAgents, HOME), 5);
        assert_eq!(asked(Limited::Status, AWAY), 5);
        assert_eq!(asked(Limited::Requests(Dialect::OpenAgi), AWAY), 3);
        assert_eq!(asked(Limited::Requests(Dialect::OpenAgi), HOME), 3);
        assert_eq!(asked(Limited::Requests(Dialect::Aiwm), AWAY), 5);
        let network = |n: u32| IpAddr::from([192, 0, 2, (n % 256) as u8]);
        let proofs = (0..200).filter(|n| rates.spend(Limited::NodeProofs, network(*n)).is_ok()).count();
        assert_eq!(proofs, 60, "whatever address of its network a node asks from");
        assert!(rates.spend(Limited::NewAgents, AWAY).is_err_and(|ms| (1..=60_000).contains(&ms)));
    }
}
