//! What is done to the members of an etcd one by one, and to who leads them.

use std::time::Duration;

use etcd_client::{Client, Error, StatusResponse};

use super::{Etcd, Member, START_LIMIT};
use crate::eventually::{eventually, within};

/// One request of the harness to one member.
const ASK_LIMIT: Duration = Duration::from_secs(2);

impl Etcd {
    /// Its members. Knobs that are turned for one only are theirs.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// One of its members, counted from 0.
    ///
    /// # Panics
    ///
    /// Where there are not so many.
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// Starts one member again, with its data and on the same ports, and waits until it answers and has a leader.
    ///
    /// # Panics
    ///
    /// Where it does not answer.
    pub async fn restart_member(&self, index: usize) {
        self.member(index).kill();
        self.launch(self.member(index));
        self.until_it_answers(self.member(index)).await;
    }

    /// Waits until the members that run agree on a leader; gives its index.
    pub async fn leader(&self) -> usize {
        eventually(START_LIMIT, || async {
            let mut leaders = Vec::new();
            let mut ids = Vec::new();
            for (index, member) in self.members.iter().enumerate().filter(|(_, member)| member.runs()) {
                let status = self.status(member).await?;
                ids.push((status.header().map_or(0, etcd_client::ResponseHeader::member_id), index));
                leaders.push(status.leader());
            }
            leaders.dedup();
            let leads = ids.iter().find(|(id, _)| leaders == [*id]).map(|(_, index)| *index);
            leads.ok_or_else(|| format!("no leader: {leaders:?} of {ids:?}"))
        })
        .await
    }

    /// Makes another member lead, the next one that runs, and waits until all know it; gives its index.
    ///
    /// # Panics
    ///
    /// Where no other one runs.
    pub async fn move_leader(&self) -> usize {
        let count = self.members.len();
        eventually(START_LIMIT, || async {
            let leader = self.leader().await;
            let next = (1..count).map(|step| (leader + step) % count).find(|index| self.members[*index].runs());
            let next = next.expect("another member runs");
            let status = self.status(&self.members[next]).await?;
            let id = status.header().map_or(0, etcd_client::ResponseHeader::member_id);
            let mut client = self.client_of(&self.members[leader]).await.maintenance_client();
            client.move_leader(id).await.map_err(|error| error.to_string())?;
            let now = self.leader().await;
            if now == leader { Err("it has not moved".to_owned()) } else { Ok(now) }
        })
        .await
    }

    /// A client of this member alone, past its proxy.
    ///
    /// # Panics
    ///
    /// With users, where it does not answer the login.
    pub async fn client_of(&self, member: &Member) -> Client {
        within(START_LIMIT, self.connect_to(member)).await.expect("the member answers")
    }

    /// `127.0.0.1:port` of each member as the harness reaches it: past all proxies and in plain text.
    pub fn own_endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.own_address().to_string()).collect()
    }

    pub(super) async fn connect_to(&self, member: &Member) -> Result<Client, Error> {
        Client::connect([member.own_address().to_string()], Some(self.connect_options())).await
    }

    async fn status(&self, member: &Member) -> Result<StatusResponse, String> {
        let mut client = self.client_of(member).await.maintenance_client();
        match tokio::time::timeout(ASK_LIMIT, client.status()).await {
            Ok(status) => status.map_err(|error| error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}
