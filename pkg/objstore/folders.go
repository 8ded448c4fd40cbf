package objstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// foldered is a Bucket that can name folders without listing what is in them.
type foldered interface {
	folders(ctx context.Context, dir string) ([]string, error)
}

// Folders names the folders directly below dir that may hold objects, sorted. Both kinds of store answer at the cost of a page for a thousand
// of them; of a Bucket that wraps another everything below dir is listed.
func Folders(ctx context.Context, b Bucket, dir string) ([]string, error) {
	if err := ValidateKey(dir); err != nil {
		return nil, err
	}
	if f, ok := b.(foldered); ok {
		return f.folders(ctx, dir)
	}
	var out []string
	for info, err := range b.List(ctx, dir+"/") {
		if err != nil {
			return nil, err
		}
		if name, _, deeper := strings.Cut(strings.TrimPrefix(info.Key, dir+"/"), "/"); deeper && (len(out) == 0 || out[len(out)-1] != name) {
			out = append(out, name)
		}
	}
	slices.Sort(out) // keys come in order, but "a-b/" before "a/"
	return out, nil
}

func (d *Dir) folders(ctx context.Context, dir string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := d.readDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, nil
}

func (b *S3) folders(ctx context.Context, dir string) ([]string, error) {
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{
		Bucket: aws.String(b.bucket), Prefix: aws.String(b.prefix + dir + "/"), Delimiter: aws.String("/"),
	})
	var out []string
	for pages.HasMorePages() {
		page, err := b.nextPage(ctx, pages)
		if err != nil {
			return nil, classify("list", dir, err)
		}
		for _, p := range page.CommonPrefixes {
			if name := path.Base(aws.ToString(p.Prefix)); ValidateKey(name) == nil {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
