//! Secrets on their way between two machines: a share to its ceremony's host, the root key to a proven peer. Each is
//! sealed to a one-time KEM key that its receiver signed, and bound to what it is for.

use crate::ceremony::CeremonyKey;
use crate::chance::Chance;
use crate::codec::{Canonical, Writer};
use crate::crypto::{self, SigningKey};
use crate::kdf::{Ctx, label};
use crate::kem::{self, KemPublic, KemSecret, SealedBox};
use crate::name::{Identity, Lineage, NodeId, Signature, VerifyingKey};
use crate::secret::Secret32;
use crate::share::Share;
use crate::slot::Root;

/// What a node signs when it hands out a one-time key for the root key starts with this.
const ONE_TIME_DOMAIN: &[u8] = b"claviger/v1/one-time-key\0";

/// Seals a share to a ceremony's key, for its bearer: the byte form of the box. None when the key is no X-Wing key.
pub fn seal_share(key: &CeremonyKey, bearer: &Identity, share: &Share, chance: &mut Chance) -> Option<Vec<u8>> {
    let (payload, ctx) = (share.to_payload(), share_ctx(key, bearer, share.index()));
    let sealed =
        kem::seal_to(&key.public, label::SHARE_TRANSIT, &ctx, payload.expose(), chance.fresh(), chance.fresh())?;
    Some(sealed.to_bytes())
}

/// Opens what [`seal_share`] made for that key, bearer and number, or nothing.
pub fn open_share(key: &CeremonyKey, secret: &KemSecret, bearer: &Identity, index: u8, sealed: &[u8]) -> Option<Share> {
    let sealed = SealedBox::from_bytes(sealed).ok()?;
    let payload = kem::open(secret, label::SHARE_TRANSIT, &share_ctx(key, bearer, index), &sealed)?;
    Share::from_payload(payload.expose()).ok()
}

fn share_ctx(key: &CeremonyKey, bearer: &Identity, index: u8) -> Ctx {
    Ctx::new().fixed(&key.digest().0).u8(index).lp(bearer.to_string().as_bytes())
}

/// What a node says of a one-time key that it will accept the root key under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneTimeKey {
    /// The cluster.
    pub lineage: Lineage,
    /// The node that will open it.
    pub to: NodeId,
    /// The seal epoch that both sides are in: a hand-over that a seal-all overtakes opens nothing.
    pub seal_epoch: u64,
    /// Drawn by whoever is to hand the root key over: makes the answer fresh.
    pub nonce: [u8; 32],
    /// The one-time public key.
    pub public: KemPublic,
}

impl OneTimeKey {
    fn signed_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(ONE_TIME_DOMAIN).raw(&self.lineage.0).u64(self.to.0).u64(self.seal_epoch);
        w.raw(&self.nonce).raw(&self.public.0);
        w.into_bytes()
    }

    /// Signs it with the node's identity key.
    pub fn sign(&self, identity: &SigningKey) -> Signature {
        crypto::sign(identity, &self.signed_bytes())
    }

    /// Whether the node with that identity key said so.
    pub fn verify(&self, identity: &VerifyingKey, signature: &Signature) -> bool {
        crypto::verify(identity, &self.signed_bytes(), signature)
    }

    fn ctx(&self, root: u32) -> Ctx {
        Ctx::new().fixed(&self.lineage.0).u64(self.to.0).u64(self.seal_epoch).fixed(&self.nonce).u32(root)
    }
}

/// Seals the root key to a verified one-time key: number u32, then the sealed box. None when the key is no X-Wing key.
pub fn seal_root(root: &Root, key: &OneTimeKey, chance: &mut Chance) -> Option<Vec<u8>> {
    let ctx = key.ctx(root.number());
    let sealed =
        kem::seal_to(&key.public, label::ROOT_TRANSIT, &ctx, root.key().expose(), chance.fresh(), chance.fresh())?;
    let mut w = Writer::default();
    w.u32(root.number());
    sealed.write(&mut w);
    Some(w.into_bytes())
}

/// Opens what [`seal_root`] sealed, or nothing. Whether it is the right root key, its commitment tells.
pub fn open_root(sealed: &[u8], key: &OneTimeKey, secret: &KemSecret) -> Option<Root> {
    let (number, rest) = sealed.split_first_chunk::<4>()?;
    let number = u32::from_be_bytes(*number);
    let sealed = SealedBox::from_bytes(rest).ok()?;
    let root = kem::open(secret, label::ROOT_TRANSIT, &key.ctx(number), &sealed)?;
    Some(Root::new(number, Secret32::copy_from(root.expose())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Fresh;

    fn chance() -> Chance {
        Chance::grow(Fresh::drawn([7; 32]))
    }

    fn key(secret: &KemSecret) -> OneTimeKey {
        OneTimeKey { lineage: Lineage([1; 32]), to: NodeId(2), seal_epoch: 5, nonce: [3; 32], public: secret.public() }
    }

    #[test]
    fn the_root_key_opens_for_whom_it_was_sealed() {
        let mut chance = chance();
        let secret = KemSecret::from_seed(Secret32::of(chance.fresh()));
        let sealed = seal_root(&Root::new(4, Secret32::of(Fresh::drawn([9; 32]))), &key(&secret), &mut chance)
            .expect("a good key");
        let opened = open_root(&sealed, &key(&secret), &secret).expect("sealed to this key");
        assert_eq!((opened.number(), opened.key().expose()), (4, &[9; 32]));
    }

    #[test]
    fn refuses_a_root_key_for_another_node_nonce_number_or_key() {
        let mut chance = chance();
        let secret = KemSecret::from_seed(Secret32::of(chance.fresh()));
        let other = KemSecret::from_seed(Secret32::of(chance.fresh()));
        let mut sealed = seal_root(&Root::new(4, Secret32::of(Fresh::drawn([9; 32]))), &key(&secret), &mut chance)
            .expect("a good key");
        assert!(open_root(&sealed, &OneTimeKey { to: NodeId(3), ..key(&secret) }, &secret).is_none());
        assert!(open_root(&sealed, &OneTimeKey { nonce: [4; 32], ..key(&secret) }, &secret).is_none());
        assert!(open_root(&sealed, &OneTimeKey { seal_epoch: 6, ..key(&secret) }, &secret).is_none());
        assert!(open_root(&sealed, &key(&secret), &other).is_none());
        sealed[3] ^= 1;
        assert!(open_root(&sealed, &key(&secret), &secret).is_none());
    }

    #[test]
    fn refuses_a_one_time_key_that_another_node_signed() {
        let mut chance = chance();
        let secret = KemSecret::from_seed(Secret32::of(chance.fresh()));
        let (node, other) =
            (SigningKey::from_seed(Secret32::of(chance.fresh())), SigningKey::from_seed(Secret32::of(chance.fresh())));
        let key = key(&secret);
        let signature = key.sign(&node);
        assert!(key.verify(&node.public(), &signature));
        assert!(!key.verify(&other.public(), &signature));
        assert!(!OneTimeKey { nonce: [0; 32], ..key }.verify(&node.public(), &signature));
    }
}
