package imagepb_test

import (
	"testing"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hachi-run/hachi/shim/image/imagepb"
)

// unread are the fields that only containerd's messages have.
var unread = cmp.Options{
	cmpopts.IgnoreUnexported(imagepb.GetContainerResponse{}, imagepb.Container{}, imagepb.ReadContentResponse{}, imagepb.GetImageResponse{},
		imagepb.ListImagesResponse{}, imagepb.Image{}, imagepb.Descriptor{}, imagepb.ViewSnapshotResponse{}, imagepb.Mount{}),
}

// What containerd says in each of its fields is what we read.
func TestRepliesAreContainerds(t *testing.T) {
	image := &images.Image{
		Name: "name", Labels: map[string]string{"a": "b"}, CreatedAt: timestamppb.Now(), UpdatedAt: timestamppb.Now(),
		Target: &types.Descriptor{MediaType: "type", Digest: "digest", Size: 1 << 40, Annotations: map[string]string{"c": "d"}},
	}
	ours := &imagepb.Image{Name: "name", Target: &imagepb.Descriptor{MediaType: "type", Digest: "digest", Size: 1 << 40}}
	for _, tc := range []struct {
		sent      proto.Message
		got, want interface{ UnmarshalVT([]byte) error }
	}{
		{
			&containers.GetContainerResponse{Container: &containers.Container{
				ID: "id", Labels: map[string]string{"a": "b"}, Image: "image", Runtime: &containers.Container_Runtime{Name: "runtime"}, Spec: &anypb.Any{TypeUrl: "spec", Value: make([]byte, 1000)},
				Snapshotter: "snapshotter", SnapshotKey: "key", CreatedAt: timestamppb.Now(), UpdatedAt: timestamppb.Now(), Extensions: map[string]*anypb.Any{"c": {}}, Sandbox: "sandbox",
			}},
			new(imagepb.GetContainerResponse), &imagepb.GetContainerResponse{Container: &imagepb.Container{Image: "image"}},
		},
		{&content.ReadContentResponse{Offset: 7, Data: []byte("data")}, new(imagepb.ReadContentResponse), &imagepb.ReadContentResponse{Data: []byte("data")}},
		{&images.GetImageResponse{Image: image}, new(imagepb.GetImageResponse), &imagepb.GetImageResponse{Image: ours}},
		{&images.ListImagesResponse{Images: []*images.Image{image, image}}, new(imagepb.ListImagesResponse), &imagepb.ListImagesResponse{Images: []*imagepb.Image{ours, ours}}},
		{
			&snapshots.ViewSnapshotResponse{Mounts: []*types.Mount{{Type: "type", Source: "source", Target: "target", Options: []string{"a", "b"}}, {}}}, new(imagepb.ViewSnapshotResponse),
			&imagepb.ViewSnapshotResponse{Mounts: []*imagepb.Mount{{Type: "type", Source: "source", Target: "target", Options: []string{"a", "b"}}, {}}},
		},
	} {
		raw, err := proto.Marshal(tc.sent)
		if err != nil {
			t.Fatal(err)
		}
		if err := tc.got.UnmarshalVT(raw); err != nil {
			t.Errorf("%T: %v", tc.got, err)
		}
		if diff := cmp.Diff(tc.want, tc.got, unread); diff != "" {
			t.Errorf("%T: %s", tc.got, diff)
		}
	}
}

// What we ask is what containerd reads.
func TestRequestsAreContainerds(t *testing.T) {
	for _, tc := range []struct {
		sent      interface{ MarshalVT() ([]byte, error) }
		got, want proto.Message
	}{
		{&imagepb.GetContainerRequest{Id: "id"}, new(containers.GetContainerRequest), &containers.GetContainerRequest{ID: "id"}},
		{&imagepb.ReadContentRequest{Digest: "digest"}, new(content.ReadContentRequest), &content.ReadContentRequest{Digest: "digest"}},
		{&imagepb.GetImageRequest{Name: "name"}, new(images.GetImageRequest), &images.GetImageRequest{Name: "name"}},
		{&imagepb.ListImagesRequest{}, new(images.ListImagesRequest), &images.ListImagesRequest{}},
		{
			&imagepb.ViewSnapshotRequest{Snapshotter: "snapshotter", Key: "key", Parent: "parent"}, new(snapshots.ViewSnapshotRequest),
			&snapshots.ViewSnapshotRequest{Snapshotter: "snapshotter", Key: "key", Parent: "parent"},
		},
		{&imagepb.RemoveSnapshotRequest{Snapshotter: "snapshotter", Key: "key"}, new(snapshots.RemoveSnapshotRequest), &snapshots.RemoveSnapshotRequest{Snapshotter: "snapshotter", Key: "key"}},
	} {
		raw, err := tc.sent.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(raw, tc.got); err != nil {
			t.Errorf("%T: %v", tc.sent, err)
		}
		if diff := cmp.Diff(tc.want, tc.got, protocmp.Transform()); diff != "" {
			t.Errorf("%T: %s", tc.sent, diff)
		}
	}
}

// The data of a blob stay where they are.
func TestDataAreNotCopied(t *testing.T) {
	raw, err := proto.Marshal(&content.ReadContentResponse{Offset: 7, Data: make([]byte, 1<<20)})
	if err != nil {
		t.Fatal(err)
	}
	var got imagepb.ReadContentResponse
	if err := got.UnmarshalVTUnsafe(raw); err != nil {
		t.Fatal(err)
	}
	if &got.Data[0] != &raw[len(raw)-1<<20] {
		t.Error("the data were copied")
	}
}
