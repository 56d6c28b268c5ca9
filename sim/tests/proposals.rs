//! What a proposer is told is what happens.

use claviger_core::name::{NodeId, TxnId};
use claviger_core::record::View;
use claviger_core::txn::{Effect, Outcome, Put, Reliance, Txn};
use claviger_ledger::{Ledger, ProposeFailed, Timings};
use claviger_sim::bare::cluster::Cluster;
use claviger_sim::bare::load::register;
use claviger_sim::disk::Honesty;
use claviger_sim::network::Weather;
use claviger_sim::trace::Trace;
use std::sync::Arc;
use std::time::Duration;

const FAIR: Weather = Weather::FAIR;

fn txn(ledger: &Ledger, key: u64) -> Txn {
    let (record, revision) = (register(key), ledger.revision());
    Txn {
        id: TxnId([key as u8; 16]),
        turn: revision.turn,
        decided_at: revision.cluster_time,
        relies: vec![Reliance::Exact(record, ledger.view().version(&record))],
        puts: vec![Put { key: record, value: vec![key as u8; 8] }],
        deletes: vec![],
        effect: Effect::Records,
    }
}

/// Found by the smoke: two transactions waited in one batch while nobody led; the impatient one was told that it surely
/// did not happen, and then the whole batch went in for the sake of the patient one.
async fn given_up_in_company() {
    let trace = Arc::new(Trace::new(1116, None));
    let mut cluster = Cluster::new(1116, Timings::default(), trace, FAIR, Honesty::Honest);
    for n in 1..=3 {
        cluster.start(NodeId(n)).await.unwrap();
    }
    assert_eq!(cluster.found().await, Outcome::Accepted(1));
    // A leader that is cut off takes nothing once its lease has run out, and does not know of another one.
    let here = cluster.leader().unwrap();
    let ledger = cluster.ledger(here).unwrap();
    let others = (1..=3).map(NodeId).filter(|n| *n != here);
    others.for_each(|other| {
        cluster.hub.cut(here, other);
        cluster.hub.cut(other, here);
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    let context = cluster.context(here).unwrap();
    let propose = |key, limit| {
        let (ledger, txn) = (ledger.clone(), txn(&ledger, key));
        context.spawn(async move { ledger.propose(txn, Duration::from_secs(limit)).await })
    };
    let (impatient, patient) = (propose(2, 1), propose(4, 60));
    let told = impatient.await.unwrap();
    cluster.hub.mend();
    assert!(matches!(patient.await.unwrap(), Ok(Outcome::Accepted(_))));
    assert_eq!(told, Err(ProposeFailed::NoQuorum));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(ledger.outcome(&TxnId([2; 16])), None);
    assert_eq!(ledger.view().version(&register(2)), 0);
}

#[test]
fn what_surely_did_not_happen_does_not_happen_later() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(given_up_in_company());
}
