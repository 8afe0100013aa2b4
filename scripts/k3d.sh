#!/usr/bin/env bash
# The cluster tests on a k3d cluster made for them, with Nacos and Redis beside it. `make k3d` calls it
# once the images are there. Leaves the caller's kubeconfig alone, publishes nothing but on loopback,
# and removes what it made whatever happens.
#   K3D_CLUSTER  the cluster's name             K3S_IMAGE  another Kubernetes, as k3d's --image takes it
#   K3D_ARGS     more arguments of `k3d cluster create`
set -euo pipefail
cd "$(dirname "$0")/.."

cluster="${K3D_CLUSTER:-microservice-toolkit}"
images="${LITE_REGISTRY_IMAGE:-lite-registry:0.1.0} ${SHOP_IMAGE:-shop:0.1.0}"
network=microservice-toolkit_default

needed() { # PROGRAM ADDRESS
  command -v "$1" >/dev/null || { echo "$1 is not installed: $2" >&2; exit 2; }
}
needed docker https://docs.docker.com/get-docker/
needed k3d https://k3d.io
needed kubectl https://kubernetes.io/docs/tasks/tools/
if k3d cluster get "$cluster" >/dev/null 2>&1; then
  echo "there is a k3d cluster $cluster already: k3d cluster delete $cluster, or K3D_CLUSTER=another make k3d" >&2
  exit 2
fi

# Renders the chart; built from its source where it is not installed, left out without Go.
if [ -z "${HELM:-}" ] && ! command -v helm >/dev/null; then
  helm="${XDG_CACHE_HOME:-$HOME/.cache}/waystation/helm-v3.18.4"
  if [ ! -x "$helm/helm" ] && command -v go >/dev/null; then
    echo "building helm, once: some minutes"
    GOBIN="$helm" go install helm.sh/helm/v3/cmd/helm@v3.18.4
  fi
  if [ -x "$helm/helm" ]; then export HELM="$helm/helm"; else
    echo "helm is not installed (https://helm.sh): the two tests of the chart will be skipped"
  fi
fi

folder=$(mktemp -d)
# Also while the cluster is made and deleted: k3d then knows of no other kubeconfig.
export KUBECONFIG="$folder/kubeconfig"
made=
started=
at_end() {
  trap - EXIT
  [ -z "$made" ] || k3d cluster delete "$cluster" || true
  if [ -n "$started" ]; then
    docker compose down
  else
    echo "Nacos and Redis were up before and stay up: docker compose down ends them"
  fi
  rm -rf "$folder"
}
trap at_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ -n "$(docker compose ps --quiet nacos redis)" ] || started=1
docker compose up --detach --wait nacos redis
docker compose run --rm nacos-admin

made=1
# shellcheck disable=SC2086 # words
k3d cluster create "$cluster" --wait --network "$network" --api-port 127.0.0.1:random \
  --kubeconfig-update-default=false ${K3S_IMAGE:+--image "$K3S_IMAGE"} ${K3D_ARGS:-}
k3d kubeconfig get "$cluster" >"$folder/kubeconfig"
chmod 600 "$folder/kubeconfig"

nodes() {
  docker ps --filter "label=k3d.cluster=$cluster" --format '{{.Names}} {{.Label "k3d.role"}}' |
    awk '$2 == "server" || $2 == "agent" { print $1 }'
}
has_images() { # NODE
  local known
  known=$(docker exec "$1" ctr --namespace k8s.io images list --quiet)
  for image in $images; do
    grep -q "/$image\$" <<<"$known" || return 1
  done
}
for node in $(nodes); do
  # `k3d image import` reports success also when it has imported nothing (seen with 5.8.3), so that
  # it is only the second way.
  # shellcheck disable=SC2086
  docker save $images | docker exec -i "$node" ctr --namespace k8s.io images import - >/dev/null || true
  if ! has_images "$node"; then
    # shellcheck disable=SC2086
    k3d image import --cluster "$cluster" $images
    has_images "$node" || { echo "$node did not take the images $images" >&2; exit 1; }
  fi
done

export K3D_CLUSTER="$cluster" K3D_NETWORK="$network"
export NACOS_SERVER_ADDR=127.0.0.1:8848 NACOS_USERNAME=nacos
export NACOS_PASSWORD="${NACOS_PASSWORD:-nacos-ci-password}"
export REDIS_URL=redis://127.0.0.1:6379 POD_NACOS_SERVER_ADDR=nacos:8848
export POD_REDIS_URL=redis://redis:6379
K3D_NACOS=$(docker compose ps --quiet nacos)
export K3D_NACOS
"${MAKE:-make}" test-cluster
