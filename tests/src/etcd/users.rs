//! Users of an etcd, where the settings ask for them.

use std::sync::atomic::Ordering;

use etcd_client::{Permission, PermissionType};

use super::Etcd;

impl Etcd {
    /// Makes `root`, and lets nobody else in from now on. Nothing where the settings ask for no users.
    pub(super) async fn add_users(&self) {
        let Some(password) = &self.settings.root_password else { return };
        let mut client = self.client().await;
        client.user_add("root", password.as_str(), None).await.expect("etcd adds a user");
        client.user_grant_role("root", "root").await.expect("etcd grants a role");
        client.auth_enable().await.expect("etcd asks for users from now on");
        self.guarded.store(true, Ordering::Relaxed);
    }

    /// A user that may do everything with the keys that begin so, and with no others. Its role has its name.
    ///
    /// # Panics
    ///
    /// Where there are no users, or this one already.
    pub async fn add_user(&self, name: &str, password: &str, prefix: &str) {
        let mut client = self.client().await;
        client.role_add(name).await.expect("etcd adds a role");
        let all = Permission::new(PermissionType::Readwrite, prefix).with_prefix();
        client.role_grant_permission(name, all).await.expect("etcd grants a permission");
        client.user_add(name, password, None).await.expect("etcd adds a user");
        client.user_grant_role(name, name).await.expect("etcd grants a role");
    }
}
