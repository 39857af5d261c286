//! What servers say of themselves.

use etcd_client::proto::{PbMemberListRequest, PbMemberListResponse, PbStatusRequest, PbStatusResponse};

use crate::ops::put;
use crate::pair::{Pair, unary};

#[tokio::test]
async fn one_member_leads_and_serves_at_its_address() {
    let pair = Pair::start().await;
    pair.put(put("a", "1")).await.expect("a put");
    for channel in &pair.channels {
        let status: PbStatusResponse =
            unary(channel, "/etcdserverpb.Maintenance/Status", PbStatusRequest {}).await.expect("a status");
        let list = PbMemberListRequest::default();
        let members: PbMemberListResponse =
            unary(channel, "/etcdserverpb.Cluster/MemberList", list).await.expect("a list");
        let header = status.header.expect("a header");
        let [member] = members.members.as_slice() else { panic!("{members:?}") };
        assert_eq!((status.version.as_str(), header.revision, status.is_learner), ("3.4.23", 2, false));
        assert_eq!((status.leader, member.id, member.name.as_str()), (header.member_id, header.member_id, "default"));
        assert_eq!(status.raft_term, header.raft_term);
        assert!(member.client_ur_ls[0].starts_with("http://127.0.0.1:") && status.raft_index > 0, "{member:?}");
    }
}
