// The Gateway API release whose CRDs `scripts/cluster up` applies, pinned by go.sum.
// Only config/crd of the downloaded module is read; nothing in it is compiled.
module serval.test/cluster/crds

go 1.26.0

require sigs.k8s.io/gateway-api v1.7.0
