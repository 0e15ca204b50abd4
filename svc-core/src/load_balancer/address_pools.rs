//! A provider that gives addresses out of pools.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::pool::{AutoAssign, Pool};
use super::request::Request;
use super::{Answer, Provider};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::{Name, NamespacedName};
use crate::net::{IpFamily, Protocol};
use crate::object::{IngressIp, IpMode, Labels, Service, TrafficPolicy};

/// Gives each Service of type LoadBalancer an address of each of its families.
///
/// Services that ask for it by the same annotation `allow-shared-ip` share an address on distinct
/// ports. The lowest address that fits is given, of the first pool that has one; a Service keeps its
/// address as long as it fits.
///
/// ```
/// use svc_core::load_balancer::{AddressPools, Pool, provide};
/// use svc_core::object::{Service, ServiceType};
/// use svc_core::NamespacedName;
///
/// let mut web = Service::named(NamespacedName::new("default", "web"));
/// web.service_type = ServiceType::LoadBalancer;
/// let mut services = [web];
/// let mut pools = AddressPools::new(vec![Pool::new("lan", vec!["192.0.2.10-192.0.2.20".parse()?])]);
/// assert!(provide(&mut pools, &mut services).is_empty());
/// assert_eq!(services[0].ingress[0].ip.to_string(), "192.0.2.10");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AddressPools {
    pools: Vec<Pool>,
    class: Option<Name>,
    mode: IpMode,
    tenants: BTreeMap<IpAddr, BTreeMap<NamespacedName, Tenant>>,
    held: BTreeMap<NamespacedName, Vec<IpAddr>>,
}

/// What decides whether a Service can share an address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tenant {
    sharing_key: Option<Name>,
    ports: BTreeSet<(Protocol, u16)>,
    /// Under policy Local, the selector: only nodes with these Pods answer for the address.
    local: Option<Labels>,
}

impl AddressPools {
    /// A provider of the Services without a class; earlier pools are used first.
    pub fn new(pools: Vec<Pool>) -> Self {
        Self {
            pools,
            class: None,
            mode: IpMode::Vip,
            tenants: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// The same for the Services of one `spec.loadBalancerClass` instead.
    pub fn of_class(self, class: impl Into<Name>) -> Self {
        Self {
            class: Some(class.into()),
            ..self
        }
    }

    /// The same with another `ipMode` in the ingress addresses.
    pub fn with_mode(self, mode: IpMode) -> Self {
        Self { mode, ..self }
    }

    /// The Services that have an address.
    pub fn tenants(&self, ip: IpAddr) -> impl Iterator<Item = &NamespacedName> {
        self.tenants.get(&ip).into_iter().flat_map(BTreeMap::keys)
    }

    /// One address for each family, or the first reason why not.
    fn choose(
        &self,
        request: &Request,
        tenant: &Tenant,
        preferred: &[IpAddr],
    ) -> Result<Vec<IpAddr>, Diagnostic> {
        if let Some(stray) = request
            .addresses
            .iter()
            .find(|ip| !request.families.contains(&IpFamily::of(**ip)))
        {
            let message = format!("{stray} is of a family that the Service does not have");
            return Err(refusal(request, DiagnosticReason::Invalid, message));
        }
        let mut chosen = Vec::new();
        let mut refused = None;
        for family in &request.families {
            match self.choose_of(*family, request, tenant, preferred) {
                Ok(ip) => chosen.push(ip),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        match refused {
            Some(why) if chosen.is_empty() || !request.one_family_is_enough => Err(why),
            Some(_) | None => Ok(chosen),
        }
    }

    fn choose_of(
        &self,
        family: IpFamily,
        request: &Request,
        tenant: &Tenant,
        preferred: &[IpAddr],
    ) -> Result<IpAddr, Diagnostic> {
        let of_family = |ip: &&IpAddr| IpFamily::of(**ip) == family;
        if let Some(ip) = request.addresses.iter().find(of_family) {
            let named = |pool: &&Pool| request.pool.as_ref().is_none_or(|name| *name == pool.name);
            if !self
                .pools
                .iter()
                .filter(named)
                .any(|pool| pool.contains(*ip))
            {
                let message = format!("{ip} is in no pool: {}", self.pool_names());
                return Err(refusal(request, DiagnosticReason::Invalid, message));
            }
            return match self.conflict(*ip, &request.service, tenant) {
                None => Ok(*ip),
                Some(why) => Err(refusal(request, DiagnosticReason::Claimed, why)),
            };
        }
        let pools = self.pools_for(request);
        if pools.is_empty() {
            let message = match &request.pool {
                Some(name) => format!("there is no pool {name:?}: {}", self.pool_names()),
                None => format!("no pool gives without being asked: {}", self.pool_names()),
            };
            return Err(refusal(request, DiagnosticReason::Invalid, message));
        }
        let fits = |ip: &IpAddr| self.conflict(*ip, &request.service, tenant).is_none();
        let kept = preferred
            .iter()
            .find(|ip| of_family(ip) && pools.iter().any(|pool| pool.contains(**ip)) && fits(ip));
        let first = || {
            pools
                .iter()
                .flat_map(|pool| pool.addresses(family))
                .find(fits)
        };
        kept.copied().or_else(first).ok_or_else(|| {
            let names: Vec<&str> = pools.iter().map(|pool| &*pool.name).collect();
            let message = format!("no {family} address is free in {}", names.join(", "));
            refusal(request, DiagnosticReason::Exhausted, message)
        })
    }

    /// The pool that is asked for, or all that give without being asked.
    fn pools_for(&self, request: &Request) -> Vec<&Pool> {
        let pools = self.pools.iter();
        pools
            .filter(|pool| match &request.pool {
                Some(name) => pool.name == *name,
                None => pool.auto_assign == AutoAssign::Always,
            })
            .collect()
    }

    /// Why a Service cannot have an address, if so.
    fn conflict(&self, ip: IpAddr, service: &NamespacedName, tenant: &Tenant) -> Option<String> {
        let others = self.tenants.get(&ip)?;
        others
            .iter()
            .filter(|(name, _)| *name != service)
            .find_map(|(name, other)| {
                let why = tenant.conflict(other)?;
                Some(format!("{ip} is that of Service {name}: {why}"))
            })
    }

    /// Makes these the addresses of a Service, and no others.
    fn hold(&mut self, service: &NamespacedName, tenant: &Tenant, ips: Vec<IpAddr>) {
        self.release(service);
        for ip in &ips {
            let tenants = self.tenants.entry(*ip).or_default();
            tenants.insert(service.clone(), tenant.clone());
        }
        if !ips.is_empty() {
            self.held.insert(service.clone(), ips);
        }
    }

    fn pool_names(&self) -> String {
        let names: Vec<String> = self
            .pools
            .iter()
            .map(|pool| {
                let ranges: Vec<String> = pool.ranges.iter().map(ToString::to_string).collect();
                format!("{} ({})", pool.name, ranges.join(", "))
            })
            .collect();
        match names.is_empty() {
            true => "there is none".into(),
            false => names.join(", "),
        }
    }
}

impl Provider for AddressPools {
    fn resume(&mut self, service: &Service) {
        let (request, _) = Request::of(service);
        let Some(request) = request.filter(|request| request.class == self.class) else {
            return;
        };
        let tenant = Tenant::of(service, &request);
        let ips: Vec<IpAddr> = service
            .ingress
            .iter()
            .map(|ingress| ingress.ip)
            .filter(|ip| self.pools.iter().any(|pool| pool.contains(*ip)))
            .filter(|ip| self.conflict(*ip, &request.service, &tenant).is_none())
            .collect();
        self.hold(&service.name, &tenant, ips);
    }

    fn ensure(&mut self, service: &Service) -> Answer {
        let (request, mut diagnostics) = Request::of(service);
        let Some(request) = request.filter(|request| request.class == self.class) else {
            self.release(&service.name);
            return Answer::NotMine;
        };
        let tenant = Tenant::of(service, &request);
        let preferred = self.held.get(&service.name).cloned().unwrap_or_default();
        let chosen = match diagnostics.is_empty() {
            true => self.choose(&request, &tenant, &preferred),
            // Whoever asks for something unreadable does not want just anything.
            false => Ok(Vec::new()),
        };
        let chosen = chosen.unwrap_or_else(|why| {
            diagnostics.push(why);
            Vec::new()
        });
        let ingress = chosen.iter().map(|ip| IngressIp {
            ip: *ip,
            mode: self.mode,
        });
        let ingress = ingress.collect();
        self.hold(&service.name, &tenant, chosen);
        Answer::Ingress(ingress, diagnostics)
    }

    fn release(&mut self, service: &NamespacedName) {
        for ip in self.held.remove(service).into_iter().flatten() {
            if let Some(tenants) = self.tenants.get_mut(&ip) {
                tenants.remove(service);
                if tenants.is_empty() {
                    self.tenants.remove(&ip);
                }
            }
        }
    }
}

impl Tenant {
    fn of(service: &Service, request: &Request) -> Self {
        Self {
            sharing_key: request.sharing_key.clone(),
            ports: request
                .frontends
                .iter()
                .map(|frontend| (frontend.protocol, frontend.port))
                .collect(),
            local: match service.external_traffic_policy {
                TrafficPolicy::Cluster => None,
                TrafficPolicy::Local => Some(service.selector.clone()),
            },
        }
    }

    fn conflict(&self, other: &Self) -> Option<String> {
        match (&self.sharing_key, &other.sharing_key) {
            (Some(key), Some(others)) if key == others => {}
            (Some(_) | None, Some(_) | None) => return Some("they do not share".into()),
        }
        if let Some((protocol, port)) = self.ports.intersection(&other.ports).next() {
            return Some(format!("both have port {port}/{protocol}"));
        }
        (self.local != other.local).then(|| {
            "they share only under externalTrafficPolicy Cluster, or with one selector".into()
        })
    }
}

fn refusal(request: &Request, reason: DiagnosticReason, message: String) -> Diagnostic {
    let field = "status.loadBalancer.ingress";
    Diagnostic::error(
        ObjectKind::Service,
        &request.service,
        field,
        reason,
        message,
    )
}
