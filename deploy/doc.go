// Package deploy is the directory of manifests to run Understudy on a cluster:
// base holds them as a kustomization. The code of the package reads the roles in
// them. Its tests hold the manifests to what they promise: every file is part of the
// kustomization, decodes strictly into the types of the Kubernetes API, and
// agrees with the others and with the code in names, ports and schema.
package deploy
