//! From the watches of the crate `kube` to the events of this one.
//!
//! ```text
//!  watcher(Api<Watched<wire::Service>>) ──► translate() ──► Translated { event, object, diagnostics }
//!                                                                 │ event.into()
//!                                                                 ▼
//!                                                   Planner::handle, ClusterState::apply
//! ```
//!
//! A watch of `Api<k8s_openapi::…::Service>` works as well, with two drawbacks: its objects take
//! ten times the memory while they wait, and one object that does not have the exact form of its
//! kind fails the list that it is in, so that none of the others arrive. [`Watched`] reads every
//! object, and what is wrong with one is said about that one.
//!
//! Nothing is kept here: use no reflector store beside it, as the state has the objects already.
//! After `InitDone` of a large list, [`Conversion::forget_unused_names`] gives back memory.
//!
//! ```
//! use kube::runtime::watcher;
//! use svc_core::kube::{Watched, translate};
//! use svc_core::wire::{self, Conversion};
//! use svc_core::{ClusterState, Event};
//!
//! let mut conversion = Conversion::default();
//! let mut state = ClusterState::new();
//! let object: Watched<wire::Service> = serde_json::from_str(
//!     r#"{"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}, {"port": "many"}]}}"#,
//! )?;
//! let done = translate(&mut conversion, watcher::Event::Apply(object));
//! assert_eq!(done.diagnostics[0].field, "spec.ports[1].port");
//! state.apply(done.event.map(Event::from).expect("an object with a name"));
//! assert_eq!(state.services().len(), 1);
//! # Ok::<(), serde_json::Error>(())
//! ```

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;

use ::kube::Resource;
use ::kube::core::ObjectMeta;
use ::kube::runtime::watcher;
use k8s_openapi::api::{core::v1 as core_api, discovery::v1 as discovery, networking::v1 as net};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};

use crate::diagnostic::{Diagnostic, ObjectKind};
use crate::name::{Name, NamespacedName};
use crate::object::{EndpointSlice, Node, Pod, Service, ServiceCidr};
use crate::state::{Event, WatchEvent};
use crate::wire::{self, Conversion, Converted, Field, Metadata};

/// An object as a watch delivers it, and what becomes of it.
///
/// Implemented for the types of `k8s-openapi` and for [`Watched`] types of the wire.
pub trait Source: Resource {
    /// The compact object.
    type Object;
    /// What names it.
    type Key;
    /// Its kind, for diagnostics.
    const KIND: ObjectKind;

    /// Converts the object; never fails as a whole unless it has no name.
    fn convert(self, conversion: &mut Conversion) -> Converted<Self::Object>;

    /// What names an object.
    fn key(name: NamespacedName) -> Self::Key;

    /// The text of an annotation.
    fn annotation(&self, key: &str) -> Option<&str> {
        let annotations = self.meta().annotations.as_ref()?;
        annotations.get(key).map(String::as_str)
    }
}

/// A type of the wire that the API server has a resource for.
pub trait WireKind: DeserializeOwned + Clone + Debug + Default + Send + 'static {
    /// The type of `k8s-openapi`, for group, version and plural.
    type Api: Resource<DynamicType = ()>;
    /// The compact object.
    type Object;
    /// What names it.
    type Key;
    /// Its kind, for diagnostics.
    const KIND: ObjectKind;

    /// Its metadata.
    fn metadata(&self) -> &Field<Metadata>;

    /// Converts the object.
    fn convert(&self, conversion: &mut Conversion) -> Converted<Self::Object>;

    /// What names an object.
    fn key(name: NamespacedName) -> Self::Key;
}

/// An object of the wire in the form that `kube` watches: reading it never fails.
///
/// Only name, namespace and resource version are in [`Resource::meta`].
#[derive(Clone, Debug, Default)]
pub struct Watched<W> {
    meta: ObjectMeta,
    object: W,
}

/// What a watch event means.
#[derive(Clone, Debug)]
pub struct Translated<T, K> {
    /// The event; `None` for an object of a list of which nothing can be used, or without a name.
    pub event: Option<WatchEvent<T, K>>,
    /// The object that the event is about; `None` for the marks of a list. The namespace is
    /// `default` for kinds that have none.
    pub object: Option<NamespacedName>,
    /// All that is wrong with the object now; nothing when it was deleted.
    pub diagnostics: Vec<Diagnostic>,
}

/// Turns an event of a watch of `kube` into one of this crate.
///
/// An object that changes so that nothing of it can be used is as good as deleted.
pub fn translate<S: Source>(
    conversion: &mut Conversion,
    event: watcher::Event<S>,
) -> Translated<S::Object, S::Key> {
    let mark = |event| Translated {
        event: Some(event),
        object: None,
        diagnostics: Vec::new(),
    };
    match event {
        watcher::Event::Init => mark(WatchEvent::Init),
        watcher::Event::InitDone => mark(WatchEvent::InitDone),
        watcher::Event::InitApply(source) => {
            let object = name(source.meta());
            let (converted, diagnostics) = source.convert(conversion);
            Translated {
                event: converted.map(WatchEvent::InitApply),
                object,
                diagnostics,
            }
        }
        watcher::Event::Apply(source) => {
            let object = name(source.meta());
            let (converted, diagnostics) = source.convert(conversion);
            let gone = || object.clone().map(S::key).map(WatchEvent::Delete);
            Translated {
                event: converted.map(WatchEvent::Apply).or_else(gone),
                object,
                diagnostics,
            }
        }
        watcher::Event::Delete(source) => {
            let object = name(source.meta());
            Translated {
                event: object.clone().map(S::key).map(WatchEvent::Delete),
                object,
                diagnostics: Vec::new(),
            }
        }
    }
}

fn name(meta: &ObjectMeta) -> Option<NamespacedName> {
    let name = meta.name.as_deref().filter(|name| !name.is_empty())?;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    Some(NamespacedName::new(namespace, name))
}

impl<W> Watched<W> {
    /// The object.
    pub fn into_inner(self) -> W {
        self.object
    }
}

impl<W: WireKind> From<W> for Watched<W> {
    fn from(object: W) -> Self {
        let text = |field: &Field<String>| field.value().cloned();
        let mut meta = ObjectMeta::default();
        if let Some(metadata) = object.metadata().value() {
            meta.name = text(&metadata.name);
            meta.namespace = text(&metadata.namespace);
            meta.resource_version = text(&metadata.resource_version);
        }
        Self { meta, object }
    }
}

impl<'de, W: WireKind + wire::Shape> Deserialize<'de> for Watched<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A field takes anything; something that is no map at all becomes an object without a name.
        let object = Field::<W>::deserialize(deserializer)?;
        Ok(object.into_value().unwrap_or_default().into())
    }
}

impl<W: WireKind> Resource for Watched<W> {
    type DynamicType = ();
    type Scope = <W::Api as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        W::Api::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        W::Api::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        W::Api::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        W::Api::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

impl<W: WireKind> Source for Watched<W> {
    type Object = W::Object;
    type Key = W::Key;
    const KIND: ObjectKind = W::KIND;

    fn convert(self, conversion: &mut Conversion) -> Converted<W::Object> {
        self.object.convert(conversion)
    }

    fn key(name: NamespacedName) -> W::Key {
        W::key(name)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        let annotations = self.object.metadata().value()?.annotations.value()?;
        annotations.get(key)?.value().map(String::as_str)
    }
}

/// Says for a kind how its two forms are converted, and what names an object of it.
macro_rules! kinds {
    ($($wire:ident, $api:ty => $object:ty, $kind:ident, $convert:ident, $key:ty, $of:expr;)*) => {
        $(
            impl WireKind for wire::$wire {
                type Api = $api;
                type Object = $object;
                type Key = $key;
                const KIND: ObjectKind = ObjectKind::$kind;

                fn metadata(&self) -> &Field<Metadata> {
                    &self.metadata
                }

                fn convert(&self, conversion: &mut Conversion) -> Converted<$object> {
                    conversion.$convert(self)
                }

                fn key(name: NamespacedName) -> $key {
                    $of(name)
                }
            }

            impl Source for $api {
                type Object = $object;
                type Key = $key;
                const KIND: ObjectKind = ObjectKind::$kind;

                fn convert(self, conversion: &mut Conversion) -> Converted<$object> {
                    conversion.$convert(&self.into())
                }

                fn key(name: NamespacedName) -> $key {
                    $of(name)
                }
            }
        )*
    };
}

fn namespaced(name: NamespacedName) -> NamespacedName {
    name
}

fn cluster_scoped(name: NamespacedName) -> Name {
    name.name
}

kinds! {
    Service, core_api::Service => Service, Service, service, NamespacedName, namespaced;
    EndpointSlice, discovery::EndpointSlice => EndpointSlice, EndpointSlice, endpoint_slice, NamespacedName, namespaced;
    Pod, core_api::Pod => Pod, Pod, pod, NamespacedName, namespaced;
    Node, core_api::Node => Node, Node, node, Name, cluster_scoped;
    Namespace, core_api::Namespace => Name, Namespace, namespace, Name, cluster_scoped;
    ServiceCidr, net::ServiceCIDR => ServiceCidr, ServiceCIDR, service_cidr, Name, cluster_scoped;
}

impl From<WatchEvent<Service, NamespacedName>> for Event {
    fn from(event: WatchEvent<Service, NamespacedName>) -> Self {
        Self::Service(event)
    }
}

impl From<WatchEvent<EndpointSlice, NamespacedName>> for Event {
    fn from(event: WatchEvent<EndpointSlice, NamespacedName>) -> Self {
        Self::EndpointSlice(event)
    }
}

impl From<WatchEvent<Node, Name>> for Event {
    fn from(event: WatchEvent<Node, Name>) -> Self {
        Self::Node(event)
    }
}

impl From<WatchEvent<ServiceCidr, Name>> for Event {
    fn from(event: WatchEvent<ServiceCidr, Name>) -> Self {
        Self::ServiceCidr(event)
    }
}
