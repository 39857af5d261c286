//! Who we are to etcd: the user, and the token that etcd gave for its password. [`Login`] decides, this does.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use crate::etcd::EtcdConfig;
use crate::etcd::error::{Authentication, Fault};
use crate::etcd::login::{Before, Login};
use crate::etcd::member::Member;

/// The token of the moment, shared with all connections.
pub(super) type Token = Arc<ArcSwapOption<HeaderValue>>;

/// What etcd says where it has no users.
const NO_USERS: &str = "authentication is not enabled";

/// The user, if one is configured. Nothing of it is ever shown.
pub(super) struct Credentials {
    config: EtcdConfig,
    login: Mutex<Login>,
    token: Token,
}

impl Credentials {
    pub(super) fn new(config: &EtcdConfig) -> Self {
        let login = Mutex::new(Login::new(!config.user.is_empty()));
        Self { config: config.clone(), login, token: Token::default() }
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// Takes a token from that member where one is needed; returns the number of the token that is sent now.
    pub(super) async fn ready(&self, member: &Member) -> Result<u64, Fault> {
        match self.before() {
            Before::Send(serial) => return Ok(serial),
            Before::Refuse(fault) => return Err(fault),
            Before::Take => {}
        }
        let _taking = member.taking.lock().await;
        // Others may have taken it meanwhile.
        match self.before() {
            Before::Send(serial) => Ok(serial),
            Before::Refuse(fault) => Err(fault),
            Before::Take => self.take(member).await,
        }
    }

    async fn take(&self, member: &Member) -> Result<u64, Fault> {
        let taken = self.ask(member).await;
        let mut login = self.login();
        match taken {
            Ok(token) => {
                self.token.store(Some(Arc::new(token)));
                login.taken(Instant::now());
            }
            Err(Fault::Answered { message, .. }) if message.contains(NO_USERS) => {
                tracing::warn!(user = self.config.user, "etcd.user is set, and etcd has no users: nobody is asked");
                self.token.store(None);
                login.not_asked();
            }
            Err(fault @ Fault::Authentication(_)) => {
                login.refused(fault.clone(), Instant::now());
                return Err(fault);
            }
            Err(fault) => return Err(fault),
        }
        match login.before(Instant::now()) {
            Before::Send(serial) => Ok(serial),
            Before::Take | Before::Refuse(_) => unreachable!("a token has just been taken"),
        }
    }

    async fn ask(&self, member: &Member) -> Result<HeaderValue, Fault> {
        let config = self.config.clone();
        // The file can be anywhere, and slow.
        let password = tokio::task::spawn_blocking(move || config.read_password()).await;
        let password = password.map_err(|error| Fault::Client(error.to_string()))?.map_err(|error| {
            let file = self.config.password_file.display().to_string();
            Fault::Authentication(Authentication::PasswordFile { file, error: error.to_string() })
        })?;
        let (user, password) = (self.config.user.clone(), password.reveal().to_owned());
        let answer = member.auth.clone().authenticate(user, password).await.map_err(Fault::of)?;
        let token = HeaderValue::from_str(answer.token());
        let mut token = token.map_err(|_| Fault::Client("etcd's token cannot be sent in a header".to_owned()))?;
        // Neither shown nor kept by what compresses headers.
        token.set_sensitive(true);
        Ok(token)
    }

    /// Is a request, sent with the token of that number, to be sent once more after this fault?
    pub(super) fn is_worth_repeating(&self, fault: &Fault, serial: u64) -> bool {
        self.login().failed(fault, serial)
    }

    /// The fault as the user has to read it: without a user, no token can be wrong.
    pub(super) fn explained(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Token(_) if !self.login().has_user() => Fault::Authentication(Authentication::NoUser),
            other => other,
        }
    }

    /// The member that was used was left.
    pub(super) fn member_left(&self) {
        self.login().member_left(Instant::now());
    }

    fn before(&self) -> Before {
        self.login().before(Instant::now())
    }

    fn login(&self) -> MutexGuard<'_, Login> {
        self.login.lock().expect("nothing panics while it holds the lock")
    }
}
