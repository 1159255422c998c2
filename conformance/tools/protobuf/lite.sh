#!/bin/sh
# Makes Go code without reflection of .proto files: lite.sh FEATURES FILE..., the files named from the top of the repository.
set -eu
cd "$(dirname "$0")/../../.."
features=$1
shift
tools=-modfile=conformance/tools/protobuf/go.mod
exec go tool $tools goprotoc -I . --plugin="$(go tool -n $tools protoc-gen-go-lite)" \
	--go-lite_out="paths=source_relative,features=$features:." "$@"
