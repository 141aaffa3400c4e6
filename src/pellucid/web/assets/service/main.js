"use strict";

/* The first page of the service. */

document.addEventListener("DOMContentLoaded", async () => {
  switchTheme(find("theme"));
  try {
    const offered = await ask("/api/offer");
    const places = offered.devices.length > 1 ? `${offered.devices.length} devices` : offered.devices[0];
    find("subtitle").textContent = `Version ${offered.version}; one job at a time on ${places}; all who have the address see all jobs`;
    followJobs(offered.tasks, makeForm(offered));
  } catch (error) {
    complain(find("problem"), error.message);
  }
});
