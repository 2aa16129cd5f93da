//! The dialects' own settings, from the keys of the configuration.

use roundtable_dialects::{aiwm, hive, megabot, mxf, open_agi};

use crate::config::Config;

/// The settings of every dialect.
pub struct Dialects {
    /// MXF.
    pub mxf: mxf::Settings,
    /// AIWM.
    pub aiwm: aiwm::Settings,
    /// Hive.
    pub hive: hive::Settings,
    /// Open-A.G.I.
    pub open_agi: open_agi::Settings,
    /// MegaBot.
    pub megabot: megabot::Settings,
}

impl Dialects {
    /// Those that a configuration asks for; what it has no key for stays as the dialect has it.
    pub fn of(config: &Config) -> Self {
        Self {
            mxf: mxf::Settings {
                messages_per_minute: config.mxf.messages_per_minute.most(),
                login_ms: signed(config.mxf.auth_timeout.ms()),
                memory_per_minute: config.mxf.memory_per_minute.most(),
                register_creates_channel: config.mxf.create_channels,
                announced_members: config.mxf.announced_members.get() as usize,
                agents_per_socket: config.mxf.agents_per_connection.get() as usize,
            },
            aiwm: aiwm::Settings {
                typing_ms: signed(config.aiwm.typing_timeout.ms()),
                replay_messages: config.aiwm.replay.get(),
                underscore_names: config.aiwm.underscore_names,
                ..aiwm::Settings::default()
            },
            hive: hive::Settings {
                status_interval_ms: signed(config.hive.status_interval.ms()),
                lists_interval_ms: signed(config.hive.lists_interval.ms()),
                agents_per_minute: config.hive.agents_per_minute.most(),
                status_per_minute: config.hive.status_per_minute.most(),
                ..hive::Settings::default()
            },
            open_agi: open_agi::Settings {
                grace_ms: Some(signed(config.openagi.grace.ms())),
                frames_per_second: config.openagi.frames_per_second.most(),
            },
            megabot: megabot::Settings {
                frames_per_second: config.megabot.frames_per_second.most(),
                frame_burst: config.megabot.frame_burst.get(),
                batched_per_second: config.megabot.batched_per_second.most(),
                max_batch: config.megabot.batch.get() as usize,
                max_message_bytes: config.websocket.max_message.bytes(),
                default_agent: config.megabot.agent.get(),
                answer_timeout_ms: signed(config.megabot.answer_timeout.ms()),
                missed_frames: config.megabot.replay.get() as usize,
                ..megabot::Settings::default()
            },
        }
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
