package launch

const sysSetns = 268
