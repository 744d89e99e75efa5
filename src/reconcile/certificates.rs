//! The certificates of a listener: certificateRefs to entries of the Snapshot.
//!
//! In: Secrets and ReferenceGrants. Out: a span of the Snapshot's certificate references, in the
//! order of the refs, and the first ref with a problem (ResolvedRefs=False). A ref with a problem
//! does not keep the others from being served; an expired certificate is better than none.

use super::attach::may_reference;
use crate::config::Snapshot;
use crate::resource::gateway::{CertificateRef, Gateway, Listener};
use crate::resource::secret::PairProblem;
use crate::resource::store::Scratch;
use crate::resource::{Decoder, Kind, Stores};
use crate::stdx::{Full, Span};

/// Why a certificateRef does not resolve as it should (reasons of ResolvedRefs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the reasons of the Gateway API, and what is wrong with a Secret")]
pub enum RefProblem {
    #[default]
    NotASecret,
    RefNotPermitted,
    NotFound,
    Pair(PairProblem),
}

/// What became of a listener's certificateRefs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Span of [`Snapshot::certificate_refs`].
    pub served: Span,
    /// The first one with a problem: its place among the listener's, and which.
    pub problem: Option<(u32, RefProblem)>,
}

/// The namespace and name a certificateRef means.
pub fn target<'g>(gateway: &'g Gateway, reference: &CertificateRef) -> (&'g str, &'g str) {
    let namespace = match gateway.text.get(reference.namespace) {
        "" => gateway.meta.key.namespace.as_str(),
        namespace => namespace,
    };
    (namespace, gateway.text.get(reference.name))
}

/// Resolves the certificateRefs of a listener of the loaded Gateway into the Snapshot.
pub fn resolve(
    stores: &Stores,
    decoder: &mut Decoder,
    listener: &Listener,
    out: &mut Snapshot,
) -> Result<Resolved, Full> {
    let (start, mut problem) = (out.certificate_refs.len(), None);
    for (place, index) in (0..).zip(listener.certificates.range()) {
        let reference = decoder.gateway.certificates[index as u32];
        let (added, wrong) = match load(stores, decoder, &reference) {
            Ok(PairProblem::None) => (add(decoder, &reference, out)?, None),
            Ok(wrong) if decoder.secret.is_usable() => {
                (add(decoder, &reference, out)?, Some(RefProblem::Pair(wrong)))
            }
            Ok(wrong) => (None, Some(RefProblem::Pair(wrong))),
            Err(wrong) => (None, Some(wrong)),
        };
        if let Some(certificate) = added {
            out.certificate_refs.push(certificate)?;
        }
        problem = problem.or(wrong.map(|wrong| (place, wrong)));
    }
    Ok(Resolved { served: out.certificate_refs.span_from(start), problem })
}

/// Loads the Secret of a ref, when it may be used; what is wrong with it.
fn load(
    stores: &Stores,
    decoder: &mut Decoder,
    reference: &CertificateRef,
) -> Result<PairProblem, RefProblem> {
    let Decoder { gateway, secret, grant, scratch, .. } = decoder;
    let text = |t| gateway.text.get(t);
    if !text(reference.group).is_empty() || text(reference.kind) != Kind::Secret.name() {
        return Err(RefProblem::NotASecret);
    }
    let (namespace, name) = target(gateway, reference);
    let from = (Kind::Gateway, gateway.meta.key.namespace.as_str());
    let to = (Kind::Secret.group(), Kind::Secret.name());
    let scratch: &mut Scratch = scratch;
    if !may_reference(stores, from, to, (namespace, name), grant, scratch) {
        return Err(RefProblem::RefNotPermitted);
    }
    let handle = stores.secrets.find_parts(namespace, name).ok_or(RefProblem::NotFound)?;
    stores.secrets.load(handle, secret, scratch);
    Ok(secret.problem)
}

/// The entry of the loaded Secret, made when it is new.
fn add(
    decoder: &Decoder,
    reference: &CertificateRef,
    out: &mut Snapshot,
) -> Result<Option<u32>, Full> {
    let (namespace, name) = target(&decoder.gateway, reference);
    let is = |text: &str| text.split_once('/') == Some((namespace, name));
    let known = out.certificates.as_slice().iter().position(|c| is(out.text.get(c.name)));
    if let Some(known) = known {
        return Ok(Some(known as u32));
    }
    let name = crate::stdx::Short::<320>::truncated(format_args!("{namespace}/{name}"));
    let (chain, key) = decoder.secret.pair();
    out.add_certificate(name.as_str(), chain, key).map(Some)
}
