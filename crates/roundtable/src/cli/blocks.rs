//! Commands about blocks: which addresses are refused, and letting one in again.

use clap::{Args, Subcommand};

use crate::admin::blocks::{Blocks, Lift};
use crate::cli::client::Failure;
use crate::cli::{Target, Terminal, changed, client, list};

#[derive(Subcommand, Debug)]
pub enum BlockCommand {
    /// Addresses that are refused at present.
    List,
    /// Let an address in again before its time.
    Lift(LiftArgs),
}

#[derive(Args, Debug)]
pub struct LiftArgs {
    /// The address, as the list shows it; of IPv6 any one of the network.
    address: String,
}

impl BlockCommand {
    pub(super) fn run(&self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        match self {
            Self::List => {
                let found: Blocks = client(target)?.all("/blocks", "blocks")?;
                let lines = found.blocks.iter().map(|block| {
                    let at = block.listener.as_deref().unwrap_or("all listeners");
                    let of = block.account.as_ref().map_or(String::new(), |who| format!(" of {who}"));
                    let until = block.until.as_ref().map_or_else(
                        || "while its connections are open".to_owned(),
                        |until| format!("until {until}"),
                    );
                    format!("{}\t{at}\t{}{of}\t{until}", block.address, block.attack_type)
                });
                list(terminal, target, &found, lines)
            }
            Self::Lift(args) => {
                let wanted = Lift { address: args.address.clone() };
                let done: Lift = client(target)?.ask("POST", "/blocks/lift", &wanted)?;
                changed(terminal, target, &done, &format!("{} may come in again", done.address))
            }
        }
    }
}
