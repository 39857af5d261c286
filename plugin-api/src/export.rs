//! The macro that exports a component, and what it expands to.

use std::sync::Arc;

use abi_stable::library::AbiHeaderRef;
use abi_stable::std_types::{RResult, RStr, RString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::border::future::guard;
use crate::border::message::{Message, decode, encode};
use crate::border::root::Fingerprint;
use crate::border::v1::component::{CreateSettings, LifeError};
use crate::border::v1::{ComponentV1, Host, HostV1, PluginV1};
use crate::component::Component;
use crate::error::{BoxError, Error};

pub use abi_stable;

/// Exports a component from its constructor: `fn(Config) -> Result<impl Component, BoxError>`, where `Config` is
/// deserialized from the component's own table of the host's configuration.
///
/// It makes the entry symbol by which a host finds the component in a shared library (crate type `cdylib`), and a constant
/// `PLUGIN` by which a binary that links the crate (crate type `rlib`) hands it to its host. A second argument,
/// `schema = EXPRESSION`, gives the JSON schema of the configuration as something that serializes.
///
/// ```
/// # use plugin_api::{BoxError, Component, Context, Services, async_trait};
/// #[derive(serde::Deserialize)]
/// struct IdleConfig {}
///
/// struct Idle;
///
/// impl Idle {
///     fn new(_: IdleConfig) -> Result<Self, BoxError> {
///         Ok(Self)
///     }
/// }
///
/// #[async_trait]
/// impl Component for Idle {
///     async fn start(&self, _: Context) -> Result<Services, BoxError> {
///         Ok(Services::new())
///     }
/// }
///
/// plugin_api::export!(Idle::new);
/// ```
#[macro_export]
macro_rules! export {
    ($constructor:expr) => {
        $crate::export!($constructor, schema = true);
    };
    ($constructor:expr, schema = $schema:expr) => {
        /// This crate's component, for a binary that links it.
        pub const PLUGIN: $crate::export::Plugin = {
            use $crate::border::message::Message;
            use $crate::border::root::{Header, Interface, Root};
            use $crate::border::v1::{ComponentV1, HostV1, PluginV1};
            use $crate::export::abi_stable::library::AbiHeaderRef;
            use $crate::export::abi_stable::std_types::{ROption, RResult, RStr, RString};

            static HEADER: Header = Header::new();
            static V1: PluginV1 = PluginV1 { check_config, schema, create };

            extern "C" fn check_config(config: RStr<'_>) -> Message {
                $crate::export::check_config($constructor, config)
            }
            extern "C" fn schema() -> RString {
                $crate::export::schema(|| $schema)
            }
            extern "C" fn create(config: RStr<'_>, host: HostV1, settings: Message) -> RResult<ComponentV1, Message> {
                $crate::export::create($constructor, env!("CARGO_PKG_VERSION"), config, host, settings)
            }
            extern "C" fn fingerprint() -> RString {
                // The strategy of the library that is made, which plain rustc flags may set apart from that of this crate.
                let panic = if cfg!(panic = "abort") { "abort" } else { "unwind" };
                $crate::export::fingerprint(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), panic)
            }
            extern "C" fn interface(number: u32) -> ROption<Interface> {
                $crate::export::interface(number, &V1)
            }
            extern "C" fn header() -> AbiHeaderRef {
                HEADER.reference(|| Root { fingerprint, interface })
            }

            #[unsafe(export_name = concat!("componenthost_plugin_", env!("CARGO_CRATE_NAME")))]
            extern "C" fn entry() -> AbiHeaderRef {
                $crate::export::loaded();
                header()
            }

            $crate::export::Plugin { package: env!("CARGO_PKG_NAME"), entry: header }
        };
    };
}

/// A component that is linked into the binary.
#[derive(Clone, Copy)]
pub struct Plugin {
    /// The crate's name: what `plugin = "…"` in the configuration names.
    pub package: &'static str,
    /// As the entry symbol of a loaded one.
    pub entry: extern "C" fn() -> AbiHeaderRef,
}

/// A mistake in a component's own configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMistake {
    /// The key, with dots; empty where the table as a whole is meant.
    pub key: String,
    /// What is wrong with it.
    pub text: String,
}

/// All mistakes that the configuration's type finds.
#[doc(hidden)]
pub fn check_config<C, T, E, F>(_: F, config: RStr<'_>) -> Message
where
    C: DeserializeOwned,
    T: Component,
    E: Into<BoxError>,
    F: Fn(C) -> Result<T, E>,
{
    let mistakes = guard(|| mistakes_of::<C>(config.as_str()));
    let panicked = |panicked: crate::border::future::Panicked| vec![mistake("", format!("reading it {panicked}"))];
    encode(&mistakes.unwrap_or_else(panicked))
}

fn mistakes_of<C: DeserializeOwned>(config: &str) -> Vec<ConfigMistake> {
    let mut table: toml::Table = match config.parse() {
        Ok(table) => table,
        Err(error) => return vec![mistake("", error.to_string())],
    };
    let mut mistakes: Vec<ConfigMistake> = Vec::new();
    // One error at a time is what serde gives: so each key that is at fault is taken out, and the rest is tried again.
    // What is missing only because it was taken out is no mistake of its own.
    loop {
        let Err(error) = serde_path_to_error::deserialize::<_, C>(table.clone()) else { break };
        let path = error.path().to_string();
        let text = error.inner().message().to_owned();
        let named = text.split('`').nth(1).unwrap_or_default().to_owned();
        let key = if path == "." || path.is_empty() { named } else { path };
        let top = key.split(['.', '[']).next().unwrap_or_default().to_owned();
        let follows = mistakes.iter().any(|known| known.key.split(['.', '[']).next() == Some(top.as_str()));
        let removed = table.remove(&top).is_some();
        if !follows || removed {
            mistakes.push(mistake(&key, text));
        }
        if !removed {
            break;
        }
    }
    mistakes
}

fn mistake(key: &str, text: String) -> ConfigMistake {
    ConfigMistake { key: key.to_owned(), text }
}

#[doc(hidden)]
pub fn schema<S: Serialize>(schema: impl FnOnce() -> S) -> RString {
    let text = guard(|| serde_json::to_string(&schema()).ok()).ok().flatten();
    // `true` is the schema that allows everything.
    text.unwrap_or_else(|| "true".to_owned()).into()
}

#[doc(hidden)]
pub fn create<C, T, E, F>(
    construct: F,
    version: &str,
    config: RStr<'_>,
    host: HostV1,
    settings: Message,
) -> RResult<ComponentV1, Message>
where
    C: DeserializeOwned,
    T: Component,
    E: Into<BoxError>,
    F: Fn(C) -> Result<T, E>,
{
    let created = guard(|| {
        let settings: CreateSettings = decode(&settings)?;
        let version = version.parse().map_err(|source: semver::Error| Error::internal(&source))?;
        ComponentV1::new(settings, version, Host::new(host), || {
            let config = toml::from_str(config.as_str())?;
            let component: Arc<dyn Component> = Arc::new(construct(config).map_err(Into::into)?);
            Ok(component)
        })
    });
    match created {
        Ok(Ok(component)) => RResult::ROk(component),
        Ok(Err(error)) => RResult::RErr(encode(&LifeError::Failed(error))),
        Err(panicked) => RResult::RErr(encode(&LifeError::from(panicked))),
    }
}

#[doc(hidden)]
pub fn fingerprint(package: &str, version: &str, panic: &str) -> RString {
    let text = guard(|| {
        let fingerprint = Fingerprint { panic: panic.to_owned(), ..Fingerprint::new(package, version) };
        serde_json::to_string(&fingerprint).unwrap_or_default()
    });
    text.unwrap_or_default().into()
}

#[doc(hidden)]
pub fn interface(number: u32, v1: &'static PluginV1) -> abi_stable::std_types::ROption<crate::border::root::Interface> {
    use abi_stable::std_types::ROption;
    if number != crate::border::v1::NUMBER {
        return ROption::RNone;
    }
    let layout = <PluginV1 as abi_stable::StableAbi>::LAYOUT;
    ROption::RSome(crate::border::root::Interface { layout, table: std::ptr::from_ref(v1).cast() })
}

/// Called by the entry symbol: this copy of the crate is in a shared library, with a panic hook of its own.
#[doc(hidden)]
pub fn loaded() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("a panic without a text");
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(target: "panic", at, "panicked: {text}");
    }));
}

/// Where the logs of a loaded plugin go.
pub(crate) mod logs {
    use std::sync::{OnceLock, PoisonError, RwLock};

    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{Registry, reload};

    use crate::border::log::{FfiRecord, Forward, level_from_number};
    use crate::border::v1::Host;

    /// The host of the component that lives in this copy of the crate; a restarted component has another.
    static HOST: RwLock<Option<Host>> = RwLock::new(None);
    static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

    pub(crate) fn forward_to(host: &Host, level: u8) {
        *HOST.write().unwrap_or_else(PoisonError::into_inner) = Some(host.clone());
        let filter = filter(level);
        LEVEL.get_or_init(|| {
            let (filter, handle) = reload::Layer::new(filter);
            let subscriber = Registry::default().with(filter).with(Forward::new(send));
            // Where the author has set one of their own, their logs are theirs.
            let _ = tracing::subscriber::set_global_default(subscriber);
            handle
        });
        set_level(level);
    }

    pub(crate) fn stop_forwarding(host: &Host) {
        let mut current = HOST.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| current.is(host)) {
            *current = None;
        }
    }

    pub(crate) fn set_level(level: u8) {
        if let Some(handle) = LEVEL.get() {
            // It fails where the subscriber is gone, which a global one never is.
            let _ = handle.modify(|current| *current = filter(level));
        }
    }

    fn filter(level: u8) -> LevelFilter {
        level_from_number(level).map_or(LevelFilter::OFF, LevelFilter::from_level)
    }

    fn send(record: &FfiRecord<'_>) {
        let host = HOST.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(host) = host {
            host.log(record);
        }
    }
}
