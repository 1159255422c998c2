package image

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hachi-run/hachi/shim/message"
)

// The calls and the fields of their messages stand in github.com/containerd/containerd/api,
// services/{containers,content,images,snapshots}/v1/*.proto and types/{descriptor,mount}.proto.
const (
	containersGet   = "containers.v1.Containers/Get"
	contentRead     = "content.v1.Content/Read"
	imagesGet       = "images.v1.Images/Get"
	imagesList      = "images.v1.Images/List"
	snapshotsRemove = "snapshots.v1.Snapshots/Remove"
	snapshotsView   = "snapshots.v1.Snapshots/View"
)

// request is a message of strings; in all requests here they are the fields 1, 2, 3 and so on.
func request(values ...string) []byte {
	var b []byte
	for i, v := range values {
		b = protowire.AppendTag(b, protowire.Number(i+1), protowire.BytesType)
		b = protowire.AppendString(b, v)
	}
	return b
}

// unary makes a call whose reply is one message.
func unary[T any](ctx context.Context, s *Source, method string, parse func([]byte) (T, error), values ...string) (reply T, err error) {
	err = s.call(ctx, method, request(values...), func(b []byte) (err error) {
		reply, err = parse(b)
		return err
	})
	return reply, err
}

// parseContainer reads the name of the image of a GetContainerResponse; empty if there is none.
func parseContainer(b []byte) (image string, err error) {
	err = read(b, func(n protowire.Number, v []byte, _ uint64) error {
		if n != 1 { // container
			return nil
		}
		return message.Fields(v, func(n protowire.Number, v []byte, _ uint64) error {
			if n == 3 { // image
				image = string(v)
			}
			return nil
		})
	})
	return image, err
}

// parseData reads a ReadContentResponse. The data are a part of b.
func parseData(b []byte) (data []byte, err error) {
	err = read(b, func(n protowire.Number, v []byte, _ uint64) error {
		if n == 2 { // data
			data = v
		}
		return nil
	})
	return data, err
}

// record is an image that containerd knows.
type record struct {
	name   string
	target ocispec.Descriptor
}

// parseImages reads a GetImageResponse, which has one image, or a ListImagesResponse.
func parseImages(b []byte) (all []record, err error) {
	err = read(b, func(n protowire.Number, v []byte, _ uint64) error {
		if n != 1 { // image, images
			return nil
		}
		all = append(all, record{})
		return message.Fields(v, all[len(all)-1].field)
	})
	return all, err
}

func (r *record) field(n protowire.Number, v []byte, _ uint64) error {
	switch n {
	case 1: // name
		r.name = string(v)
	case 3: // target
		return message.Fields(v, func(n protowire.Number, v []byte, x uint64) error {
			switch n {
			case 1: // media_type
				r.target.MediaType = string(v)
			case 2: // digest
				r.target.Digest = digest.Digest(v)
			case 3: // size
				r.target.Size = int64(x)
			}
			return nil
		})
	}
	return nil
}

// parseMounts reads a ViewSnapshotResponse.
func parseMounts(b []byte) (mounts []specs.Mount, err error) {
	err = read(b, func(n protowire.Number, v []byte, _ uint64) error {
		if n != 1 { // mounts
			return nil
		}
		mounts = append(mounts, specs.Mount{})
		m := &mounts[len(mounts)-1]
		return message.Fields(v, func(n protowire.Number, v []byte, _ uint64) error {
			switch n {
			case 1: // type
				m.Type = string(v)
			case 2: // source
				m.Source = string(v)
			case 3: // target
				m.Destination = string(v)
			case 4: // options
				m.Options = append(m.Options, string(v))
			}
			return nil
		})
	})
	return mounts, err
}

// read is message.Fields for a whole reply, whose error is a status.
func read(reply []byte, f func(n protowire.Number, v []byte, x uint64) error) error {
	if err := message.Fields(reply, f); err != nil {
		return status.Errorf(codes.Internal, "malformed reply: %v", err)
	}
	return nil
}
