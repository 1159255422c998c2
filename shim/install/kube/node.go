package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// The labels of a node. Pods of the RuntimeClass go to nodes that are ready.
const (
	LabelReady   = "hachi.run/ready"
	LabelVersion = "hachi.run/version"
)

// LabelNode says that a node runs hachi of a version.
func (c *Client) LabelNode(ctx context.Context, node, version string) error {
	return c.label(ctx, node, map[string]any{LabelReady: "true", LabelVersion: labelValue(version)})
}

// UnlabelNode takes the labels away.
func (c *Client) UnlabelNode(ctx context.Context, node string) error {
	return c.label(ctx, node, map[string]any{LabelReady: nil, LabelVersion: nil})
}

func (c *Client) label(ctx context.Context, node string, labels map[string]any) error {
	err := c.do(ctx, http.MethodPatch, "/api/v1/nodes/"+url.PathEscape(node), map[string]any{"metadata": map[string]any{"labels": labels}}, nil)
	if err != nil {
		return fmt.Errorf("label node %s: %w", node, err)
	}
	return nil
}

var notInLabel = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// labelValue makes a version fit for a label: 63 characters of a small set, the outer ones letters or digits.
func labelValue(version string) string {
	v := notInLabel.ReplaceAllString(version, "-")
	if len(v) > 63 {
		v = v[:63]
	}
	return strings.Trim(v, "._-")
}
