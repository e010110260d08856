#!/bin/sh
# Writes this container's configuration from the mounted template, then becomes the node.
#
# NODE_NAME and NODE_ADDRESS, in the template as ${NODE_NAME} and ${NODE_ADDRESS}, default to the
# container's host name and its first address. TEMPLATE and CONFIG say where to read and write.
set -eu

template=${TEMPLATE:-/etc/meshlb/node.toml}
config=${CONFIG:-/run/meshlb/node.toml}
name=${NODE_NAME:-$(hostname)}
address=${NODE_ADDRESS:-$(hostname -i | cut -d ' ' -f 1)}

if [ -f "$template" ]; then
    sed -e "s|\${NODE_NAME}|$name|g" -e "s|\${NODE_ADDRESS}|$address|g" "$template" >"$config"
fi

exec "$@"
