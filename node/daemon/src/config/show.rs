//! The effective configuration, printed as the file that would say it. It names files of secrets and opens none.

use super::{Config, LogFormat, TlsFiles, Unseal};
use std::fmt;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { node, listen, raft, limits, log, .. } = self;
        writeln!(f, "[node]\nid = {}\ndata_dir = {:?}", node.id, node.data_dir)?;
        writeln!(f, "cluster = \"{}\"\nregion = \"{}\"\n", node.cluster, node.region)?;
        writeln!(f, "[listen]\nclients = \"{}\"\npeers = \"{}\"", listen.clients, listen.peers)?;
        writeln!(f, "metrics = \"{}\"\nreflection = {}\n", listen.metrics, listen.reflection)?;
        files(f, "tls.clients", &self.tls_clients)?;
        files(f, "tls.peers", &self.tls_peers)?;
        writeln!(f, "[peers]")?;
        self.peers.iter().try_for_each(|(id, address)| writeln!(f, "{id} = {address:?}"))?;
        let uris: Vec<String> = self.administrators.iter().map(ToString::to_string).collect();
        writeln!(f, "\n[founders]\nadministrators = {uris:?}\n")?;
        match &self.unseal {
            Unseal::Custodians => writeln!(f, "[unseal]\nkind = \"custodians\"\n")?,
            Unseal::Static(file) => writeln!(f, "[unseal]\nkind = \"static\"\nfile = {file:?}\n")?,
        }
        writeln!(f, "[raft]\nheartbeat_ms = {}\nelection_min_ms = {}", raft.heartbeat_ms, raft.election_min_ms)?;
        writeln!(f, "election_max_ms = {}\nsnapshot_entries = {}", raft.election_max_ms, raft.snapshot_entries)?;
        writeln!(f, "snapshot_chunk_bytes = {}", raft.snapshot_chunk_bytes)?;
        writeln!(f, "keep_entries = {}\nkeep_bytes = {}", raft.keep_entries, raft.keep_bytes)?;
        writeln!(f, "keep_entries_max = {}\nkeep_bytes_max = {}\n", raft.keep_entries_max, raft.keep_bytes_max)?;
        writeln!(f, "[audit]\nstrict = {}\n", self.strict_audit)?;
        writeln!(f, "[limits]\nhandshakes = {}\nconnections = {}", limits.handshakes, limits.connections)?;
        writeln!(f, "streams_per_connection = {}", limits.streams_per_connection)?;
        writeln!(f, "requests_in_flight = {}\nthreads = {}\n", limits.requests_in_flight, limits.threads)?;
        let format = match log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        writeln!(f, "[log]\nformat = \"{format}\"\nlevel = \"{}\"", log.level)
    }
}

fn files(f: &mut fmt::Formatter<'_>, section: &str, files: &TlsFiles) -> fmt::Result {
    writeln!(f, "[{section}]\nca = {:?}\ncert = {:?}\nkey = {:?}\n", files.ca, files.cert, files.key)
}
