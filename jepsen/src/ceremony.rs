//! Shares offered by hand: what the command line would refuse to send, a node must refuse to take.

use crate::cluster::Cluster;
use crate::people::Custodian;
use crate::trouble::{About, Told};
use crate::wire::Line;
use age::x25519;
use claviger_core::ceremony::CeremonyKey;
use claviger_core::chance::{Chance, Fresh};
use claviger_core::codec::Canonical;
use claviger_core::name::Identity;
use claviger_core::share::{Share, ShareFile};
use claviger_core::transit::seal_share;
use claviger_proto::v1::{BeginUnsealRequest, OfferShareRequest, OfferShareResponse};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use tonic::Status;

/// Somebody at a ceremony, with their own certificate.
pub struct Guest {
    line: Line,
    bearer: Identity,
    key: CeremonyKey,
}

impl Guest {
    /// Begins the ceremony at a node, or finds the one that runs.
    pub async fn arrive(cluster: &Cluster, node: u64, custodian: &Custodian) -> Told<Guest> {
        let line = cluster.line(node, &custodian.credentials).await?;
        let begun = line.seal().begin_unseal(BeginUnsealRequest {}).await.about("begin the ceremony")?.into_inner();
        let key = CeremonyKey::from_bytes(&begun.statement).about("the ceremony's statement")?;
        Ok(Guest { line, key, bearer: custodian.uri().parse().about("custodian")? })
    }

    /// Offers a share, sealed and proven as it should be, whatever share it is.
    pub async fn offer(&self, share: &Share) -> Told<Result<OfferShareResponse, Status>> {
        let ask = self.offering(share)?;
        Ok(self.send(ask).await)
    }

    /// What [`Guest::offer`] sends: for tests that change it.
    pub fn offering(&self, share: &Share) -> Told<OfferShareRequest> {
        let sealed = seal_share(&self.key, &self.bearer, share, &mut chance()?).about("the key is no X-Wing key")?;
        let proof = share.prove(&self.key.challenge(share.index(), &self.bearer));
        Ok(OfferShareRequest {
            ceremony: self.key.ceremony.0.to_vec().into(),
            index: share.index().into(),
            sealed_share: sealed.into(),
            proof: proof.0.to_vec().into(),
        })
    }

    /// Sends any offer.
    pub async fn send(&self, ask: OfferShareRequest) -> Result<OfferShareResponse, Status> {
        self.line.seal().offer_share(ask).await.map(tonic::Response::into_inner)
    }
}

/// Opens a custodian's share file with their private key.
pub fn open_share(custodian: &Custodian, file: &Path) -> Told<Share> {
    let file = ShareFile::from_str(&std::fs::read_to_string(file).about(file.display())?).about("share file")?;
    let decryptor = age::Decryptor::new(age::armor::ArmoredReader::new(file.armor.as_bytes())).about("share file")?;
    let identity = identity(custodian)?;
    let mut payload = Vec::new();
    decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .about("share file")?
        .read_to_end(&mut payload)?;
    file.accept(&payload).about("share file")
}

fn identity(custodian: &Custodian) -> Told<x25519::Identity> {
    let text = std::fs::read_to_string(&custodian.private).about(custodian.private.display())?;
    let word = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').find(|w| w.starts_with("AGE-SECRET-KEY-1"));
    x25519::Identity::from_str(word.about("no age identity in the private file")?).about("age identity")
}

/// The same share with its last bit flipped.
pub fn flipped(share: &Share) -> Told<Share> {
    let mut payload = share.to_payload().expose().to_vec();
    *payload.last_mut().about("an empty share")? ^= 1;
    Share::from_payload(&payload).about("a flipped share")
}

/// Randomness for what is sealed here, from the operating system.
pub fn chance() -> Told<Chance> {
    let mut seed = [0; 32];
    getrandom(&mut seed, GetRandomFlags::empty()).about("randomness of the system")?;
    Ok(Chance::grow(Fresh::drawn(seed)))
}
