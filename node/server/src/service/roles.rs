//! Who may do what.

use super::change::RequestStamp;
use super::{ReadAsk, Service, Visit};
use claviger_core::decide::{self, Decision, Role, RoleCursor};
use claviger_core::failure::{Failure, Refused};
use claviger_core::name::{Identity, KeyHash};
use claviger_core::policy::Cluster;
use claviger_core::policy::action::{
    AllowCertificate, DeleteRole, DenyCertificate, GetRole, ListDeniedCertificates, ListRoles, SetRole,
};
use claviger_core::record::Version;

/// Roles as they were written at a version.
pub type RoleAt = (Role, Version);

/// A page of roles.
pub struct RolePage {
    /// The roles.
    pub roles: Vec<RoleAt>,
    /// Where the next page goes on, if there is one.
    pub next: Option<RoleCursor>,
    /// The revision that it reflects.
    pub sequence: u64,
}

impl Service {
    /// Gives an identity its roles and keys; replaces what it had.
    pub async fn set_role(&self, visit: &Visit, (role, request): (Role, RequestStamp)) -> Result<RoleAt, Failure> {
        let (_, version) = self
            .change::<SetRole, ()>(visit, Cluster, request, |desk, permit, stamp, chance| {
                let Decision { txn, .. } = decide::set_role(desk, permit, role.clone(), stamp, chance)?;
                Ok(Decision { txn, outcome: () })
            })
            .await?;
        Ok((role, version))
    }

    /// Takes everything from an identity.
    pub async fn delete_role(&self, visit: &Visit, (who, request): (Identity, RequestStamp)) -> Result<u64, Failure> {
        let (_, version) = self
            .change::<DeleteRole, _>(visit, Cluster, request, |desk, permit, stamp, chance| {
                decide::delete_role(desk, permit, &who, stamp, chance)
            })
            .await?;
        Ok(version)
    }

    /// Refuses a certificate by its key.
    pub async fn deny_certificate(
        &self,
        visit: &Visit,
        (key, request): (KeyHash, RequestStamp),
    ) -> Result<u64, Failure> {
        let (_, version) = self
            .change::<DenyCertificate, _>(visit, Cluster, request, |desk, permit, stamp, chance| {
                decide::deny_certificate(desk, permit, key, stamp, chance)
            })
            .await?;
        Ok(version)
    }

    /// Takes a denial back.
    pub async fn allow_certificate(
        &self,
        visit: &Visit,
        (key, request): (KeyHash, RequestStamp),
    ) -> Result<u64, Failure> {
        let (_, version) = self
            .change::<AllowCertificate, _>(visit, Cluster, request, |desk, permit, stamp, chance| {
                decide::allow_certificate(desk, permit, key, stamp, chance)
            })
            .await?;
        Ok(version)
    }

    /// The roles of one identity, and the revision that the answer reflects.
    pub async fn get_role(&self, visit: &Visit, who: Identity) -> Result<(RoleAt, u64), Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<GetRole>(visit.caller()?, Cluster, &reading)?;
        visit.rests_on(&reading);
        let role = decide::read_role(&reading.opened()?.desk(&reading.view, self.world.clock.now()), &who)?;
        Ok((role.ok_or(Refused::NotFound)?, reading.sequence()))
    }

    /// A page of everybody's roles.
    pub async fn list_roles(
        &self,
        visit: &Visit,
        (limit, after): (usize, Option<RoleCursor>),
    ) -> Result<RolePage, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<ListRoles>(visit.caller()?, Cluster, &reading)?;
        visit.rests_on(&reading);
        let list = decide::list_roles(&reading.opened()?.desk(&reading.view, self.world.clock.now()), after, limit)?;
        Ok(RolePage { roles: list.roles, next: list.next, sequence: reading.sequence() })
    }

    /// Everything that is denied.
    pub async fn list_denied_certificates(&self, visit: &Visit, (): ()) -> Result<(Vec<KeyHash>, u64), Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<ListDeniedCertificates>(visit.caller()?, Cluster, &reading)?;
        visit.rests_on(&reading);
        Ok((decide::list_denied(&reading.view)?, reading.sequence()))
    }
}
