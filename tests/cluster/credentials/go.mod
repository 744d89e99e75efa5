// The cluster's PKI and kubeconfigs, made anew at each start; standard library only.
module serval.test/cluster/credentials

go 1.26.0
