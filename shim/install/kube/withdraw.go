package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Withdrawal names what Withdraw looks at.
type Withdrawal struct {
	// Namespace and DaemonSet are the installer's.
	Namespace, DaemonSet string
	// RuntimeClass is the one whose pods must be gone; empty means that pods do not matter.
	RuntimeClass string
	// Flags are added to the installer's command line.
	Flags []string
	// Say gets a line when something changes; it may be nil.
	Say func(string)
}

type daemonSet struct {
	Metadata struct {
		Generation int64 `json:"generation"`
	} `json:"metadata"`
	Spec struct {
		Template struct {
			Spec struct {
				Containers []map[string]any `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
	Status struct {
		Observed  int64 `json:"observedGeneration"`
		Desired   int   `json:"desiredNumberScheduled"`
		Updated   int   `json:"updatedNumberScheduled"`
		Available int   `json:"numberAvailable"`
		Ready     int   `json:"numberReady"`
	} `json:"status"`
}

type podList struct {
	Items []struct {
		Metadata struct {
			Name, Namespace string
			Labels          map[string]string
		}
		Spec struct {
			NodeName         string
			RuntimeClassName string
		}
		Status struct {
			Phase             string
			ContainerStatuses []struct {
				State struct {
					Waiting, Terminated *struct{ Reason, Message string }
				}
				LastState struct {
					Terminated *struct{ Reason, Message string }
				}
				Ready bool
			}
		}
	}
	Metadata struct{ Continue string }
}

// Withdraw makes the installer's pods uninstall hachi from their nodes, and returns when all have. It refuses while pods
// of the RuntimeClass are there. The DaemonSet goes on to run "hachi node uninstall" and is then to be deleted.
func (c *Client) Withdraw(ctx context.Context, w Withdrawal) error {
	say := w.Say
	if say == nil {
		say = func(string) {}
	}
	if w.RuntimeClass != "" {
		if err := c.refuseBusy(ctx, w.RuntimeClass); err != nil {
			return err
		}
	}
	at := "/apis/apps/v1/namespaces/" + url.PathEscape(w.Namespace) + "/daemonsets/" + url.PathEscape(w.DaemonSet)
	var set daemonSet
	err := c.do(ctx, http.MethodGet, at, nil, &set)
	var answer *Error
	if errors.As(err, &answer) && answer.Code == http.StatusNotFound {
		say("the installer's DaemonSet is gone; nothing to do")
		return nil
	}
	if err != nil {
		return fmt.Errorf("withdraw: read DaemonSet: %w", err)
	}
	if err := turn(set.Spec.Template.Spec.Containers, w.Flags); err != nil {
		return fmt.Errorf("withdraw: DaemonSet %s/%s: %w", w.Namespace, w.DaemonSet, err)
	}
	// Lists are replaced whole by a merge patch, so what was read goes back with one word changed.
	patch := map[string]any{"spec": map[string]any{
		"updateStrategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxUnavailable": "100%"}},
		"template":       map[string]any{"spec": map[string]any{"containers": set.Spec.Template.Spec.Containers}},
	}}
	if err := c.do(ctx, http.MethodPatch, at, patch, &set); err != nil {
		return fmt.Errorf("withdraw: change DaemonSet: %w", err)
	}
	for last := ""; ; {
		s := set.Status
		if s.Observed >= set.Metadata.Generation && s.Updated == s.Desired && s.Ready == s.Desired {
			say(fmt.Sprintf("%d of %d nodes are done", s.Ready, s.Desired))
			return nil
		}
		if now := fmt.Sprintf("%d of %d nodes are done", min(s.Updated, s.Ready), s.Desired); now != last {
			last = now
			say(now)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("withdraw: %w%s", context.Cause(ctx), c.reasons(w))
		case <-time.After(time.Second):
		}
		if err := c.do(ctx, http.MethodGet, at, nil, &set); err != nil && ctx.Err() == nil {
			return fmt.Errorf("withdraw: read DaemonSet: %w", err)
		}
	}
}

// turn changes the installer's order from install to uninstall.
func turn(containers []map[string]any, flags []string) error {
	for _, one := range containers {
		args, _ := one["args"].([]any)
		at := slices.IndexFunc(args, func(a any) bool { return a == "install" || a == "uninstall" })
		if at < 0 {
			continue
		}
		args[at] = "uninstall"
		for _, f := range flags {
			if !slices.Contains(args, any(f)) {
				args = append(args, f)
			}
		}
		one["args"] = args
		return nil
	}
	return errors.New("no container with the argument install (is it the installer's?)")
}

// refuseBusy is an error that names the pods of a RuntimeClass that have not ended.
func (c *Client) refuseBusy(ctx context.Context, class string) error {
	var busy []string
	for next := ""; ; {
		var pods podList
		if err := c.do(ctx, http.MethodGet, "/api/v1/pods?limit=500&continue="+url.QueryEscape(next), nil, &pods); err != nil {
			return fmt.Errorf("withdraw: list pods: %w", err)
		}
		for _, p := range pods.Items {
			if p.Spec.RuntimeClassName == class && p.Status.Phase != "Succeeded" && p.Status.Phase != "Failed" {
				busy = append(busy, p.Metadata.Namespace+"/"+p.Metadata.Name)
			}
		}
		if next = pods.Metadata.Continue; next == "" {
			break
		}
	}
	if len(busy) == 0 {
		return nil
	}
	slices.Sort(busy)
	const most = 10
	more := ""
	if len(busy) > most {
		more = fmt.Sprintf(" and %d more", len(busy)-most)
		busy = busy[:most]
	}
	return fmt.Errorf("withdraw: pods use the RuntimeClass %s: %s%s (delete them first; helm uninstall --no-hooks leaves the nodes as they are)", class, strings.Join(busy, ", "), more)
}

// reasons tells what the installer's pods that are not done say, one line each.
func (c *Client) reasons(w Withdrawal) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var pods podList
	if err := c.do(ctx, http.MethodGet, "/api/v1/namespaces/"+url.PathEscape(w.Namespace)+"/pods", nil, &pods); err != nil {
		return ""
	}
	var b strings.Builder
	for _, p := range pods.Items {
		if !strings.HasPrefix(p.Metadata.Name, w.DaemonSet+"-") {
			continue
		}
		for _, s := range p.Status.ContainerStatuses {
			why := "not done"
			if s.State.Waiting != nil {
				why = s.State.Waiting.Reason
			}
			if t := s.LastState.Terminated; t != nil && t.Message != "" {
				why += ": " + strings.TrimSpace(t.Message)
			}
			if !s.Ready {
				fmt.Fprintf(&b, "\nnode %s: %s", p.Spec.NodeName, why)
			}
		}
	}
	return b.String()
}
